//! `--check` and `--call`: what is asked of a Dockerfile instead of building it.

use hako_dockerfile::{
    call::Call,
    check::{BaseImage, Facts, Request},
    ignore::Matcher,
    scope::Platforms,
};
use hako_engine::Engine;
use hako_oci::{Platform, Reference};
use serde_json::Value;

use crate::failure::{Failure, Outcome, say, success};

use super::{context::Given, flags::Build};
use crate::verbs::print;

/// What the store knows of base images, and the context of files. Nothing is fetched.
struct Known {
    engine: Option<Engine>,
    ignored: Matcher,
}

impl Facts for Known {
    fn image(&self, name: &Reference, platform: &Platform) -> Option<BaseImage> {
        let engine = self.engine.as_ref()?;
        let name = name.to_string();
        // An image for another platform is what that check is about.
        let image =
            engine.image_for(&name, Some(platform)).or_else(|_| engine.image(&name)).ok()?;
        let config = image.config();
        let own = config.config.clone().unwrap_or_default();
        let words = |key: &str| {
            let list = own.extra.get(key).and_then(Value::as_array);
            let texts = list.into_iter().flatten().filter_map(Value::as_str);
            texts.map(str::to_owned).collect()
        };
        Some(BaseImage {
            shell: words("Shell"),
            onbuild: words("OnBuild"),
            platform: Some(Platform::new(&config.os, &config.architecture)),
            env: own.env,
        })
    }

    fn ignored(&self) -> Option<&Matcher> {
        Some(&self.ignored)
    }
}

/// Answers a call.
pub(super) fn answer(
    engine: Option<Engine>,
    given: &Given,
    options: &Build,
    call: Call,
) -> Outcome {
    let asked = options.request();
    let ignored = Matcher::of_file(&given.ignore)
        .map_err(|error| Failure::new(format!("failed to read dockerignore: {error}")))?;
    let request = Request {
        target: asked.target,
        build_args: asked.build_args,
        platforms: Platforms { build: Platform::host(), target: asked.platform },
        contexts: asked.contexts.into_keys().chain(asked.image_contexts.into_keys()).collect(),
        settings: None,
    };
    let known = Known { engine, ignored };
    let answer = call
        .answer(&given.source(), &request, &known)
        .map_err(|error| Failure::new(error.to_string()))?;
    print(&answer.text)?;
    if let Some(error) = &answer.error {
        say!("ERROR: {}", error.trim_end());
    }
    if answer.failed { Err(Failure::Said(1)) } else { success() }
}
