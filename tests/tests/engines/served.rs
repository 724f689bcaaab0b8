//! `hako registry serve`, for engines to push to and pull from.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use hako_tests::{binary, place::Place};

/// A registry on loopback; dropping it ends it.
pub(crate) struct Served {
    child: Child,
    pub(crate) host: String,
    // Last: it goes when the server is gone.
    _place: Place,
}

impl Served {
    pub(crate) fn start() -> Served {
        let place = Place::new("served");
        let mut command = Command::new(binary::hako());
        command.args(["registry", "serve", "--listen", "127.0.0.1:0", "--root"]);
        command.arg(place.join("root")).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("hako starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let first = lines.next().expect("it says where it listens").expect("UTF-8");
        let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
        let host = first["address"].as_str().expect("an address").to_owned();
        // Its log has to go somewhere.
        thread::spawn(move || lines.map_while(Result::ok).count());
        Served { child, host, _place: place }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop((self.child.kill(), self.child.wait()));
    }
}
