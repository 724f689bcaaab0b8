//! Programs that were compiled already, by the content of their profiles.
//!
//! For processes that start many containers. There is no cache on disk: compiling Docker's profile
//! takes 20 µs (60 µs the first time in a process, most of it page faults), and finding a file by
//! the profile's digest, reading it and checking it as strictly as something that goes into the
//! kernel deserves takes as long; a file that decides what a container may do is better not there.

use std::sync::{Arc, Mutex, PoisonError};

use hako_oci::runtime::Seccomp;

use crate::{Error, Program, compile};

/// How many programs are kept; the one that was not used for longest goes first.
const PROGRAMS_MAX: usize = 16;

/// A small store of compiled programs, shared by threads.
#[derive(Debug, Default)]
pub struct Cache {
    /// Most recently used last.
    programs: Mutex<Vec<(Seccomp, Arc<Program>)>>,
}

impl Cache {
    /// An empty one.
    pub fn new() -> Cache {
        Cache::default()
    }

    /// The program for a profile, compiled unless an equal profile was compiled before.
    pub fn compile(&self, profile: &Seccomp) -> Result<Arc<Program>, Error> {
        if let Some(program) = self.find(profile) {
            return Ok(program);
        }
        // Not under the lock: two threads may compile the same, and both are right.
        let program = Arc::new(compile(profile)?);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if programs.len() >= PROGRAMS_MAX {
            programs.remove(0);
        }
        programs.push((profile.clone(), program.clone()));
        Ok(program)
    }

    fn find(&self, profile: &Seccomp) -> Option<Arc<Program>> {
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let i = programs.iter().position(|(p, _)| p == profile)?;
        let entry = programs.remove(i);
        let program = entry.1.clone();
        programs.push(entry);
        Some(program)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hako_oci::runtime::SeccompRule;

    fn profile(call: &str) -> Seccomp {
        Seccomp {
            default_action: "SCMP_ACT_ALLOW".into(),
            syscalls: vec![SeccompRule {
                names: vec![call.into()],
                action: "SCMP_ACT_ERRNO".into(),
                ..SeccompRule::default()
            }],
            ..Seccomp::default()
        }
    }

    #[test]
    fn equal_profiles_are_compiled_once() {
        let cache = Cache::new();
        let first = cache.compile(&profile("kill")).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.compile(&profile("kill")).unwrap()));
        let other = cache.compile(&profile("read")).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(*other, compile(&profile("read")).unwrap());
    }

    #[test]
    fn the_longest_unused_goes() {
        let cache = Cache::new();
        let calls: Vec<_> = crate::Call::all().take(PROGRAMS_MAX).map(|c| c.name()).collect();
        let first = cache.compile(&profile("kill")).unwrap();
        for call in &calls {
            cache.compile(&profile("kill")).unwrap();
            cache.compile(&profile(call)).unwrap();
        }
        assert!(Arc::ptr_eq(&first, &cache.compile(&profile("kill")).unwrap()));
        for call in &calls {
            cache.compile(&profile(call)).unwrap();
        }
        assert!(!Arc::ptr_eq(&first, &cache.compile(&profile("kill")).unwrap()));
        assert!(cache.programs.lock().unwrap().len() <= PROGRAMS_MAX);
    }

    #[test]
    fn an_error_is_not_kept() {
        let cache = Cache::new();
        assert!(cache.compile(&Seccomp::default()).is_err());
        assert!(cache.programs.lock().unwrap().is_empty());
    }
}
