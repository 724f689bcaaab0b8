//! The build checks: names, descriptions, addresses, and the settings that switch them.

use crate::go;

/// A build check.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What it wants.
    pub description: &'static str,
    /// Where it is explained.
    pub url: &'static str,
    /// Whether it has to be switched on.
    pub experimental: bool,
}

macro_rules! rules {
    ($($constant:ident $name:literal $page:literal $experimental:literal $description:literal;)*) => {
        $(
            #[doc = $description]
            pub const $constant: &Rule = &Rule {
                name: $name,
                description: $description,
                url: concat!("https://docs.docker.com/go/dockerfile/rule/", $page, "/"),
                experimental: $experimental,
            };
        )*
        /// All of them.
        pub const ALL: &[&Rule] = &[$($constant),*];
    };
}

rules! {
    STAGE_NAME_CASING "StageNameCasing" "stage-name-casing" false
        "Stage names should be lowercase";
    FROM_AS_CASING "FromAsCasing" "from-as-casing" false
        "The 'as' keyword should match the case of the 'from' keyword";
    NO_EMPTY_CONTINUATION "NoEmptyContinuation" "no-empty-continuation" false
        "Empty continuation lines will become errors in a future release";
    CONSISTENT_INSTRUCTION_CASING "ConsistentInstructionCasing" "consistent-instruction-casing" false
        "All commands within the Dockerfile should use the same casing (either upper or lower)";
    DUPLICATE_STAGE_NAME "DuplicateStageName" "duplicate-stage-name" false
        "Stage names should be unique";
    RESERVED_STAGE_NAME "ReservedStageName" "reserved-stage-name" false
        "Reserved words should not be used as stage names";
    JSON_ARGS_RECOMMENDED "JSONArgsRecommended" "json-args-recommended" false
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals";
    MAINTAINER_DEPRECATED "MaintainerDeprecated" "maintainer-deprecated" false
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author";
    UNDEFINED_ARG_IN_FROM "UndefinedArgInFrom" "undefined-arg-in-from" false
        "FROM command must use declared ARGs";
    WORKDIR_RELATIVE_PATH "WorkdirRelativePath" "workdir-relative-path" false
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base image changes";
    UNDEFINED_VAR "UndefinedVar" "undefined-var" false
        "Variables should be defined before their use";
    MULTIPLE_INSTRUCTIONS_DISALLOWED "MultipleInstructionsDisallowed" "multiple-instructions-disallowed" false
        "Multiple instructions of the same type should not be used in the same stage";
    LEGACY_KEY_VALUE_FORMAT "LegacyKeyValueFormat" "legacy-key-value-format" false
        "Legacy key/value format with whitespace separator should not be used";
    INVALID_BASE_IMAGE_PLATFORM "InvalidBaseImagePlatform" "invalid-base-image-platform" false
        "Base image platform does not match expected target platform";
    REDUNDANT_TARGET_PLATFORM "RedundantTargetPlatform" "redundant-target-platform" false
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior";
    SECRETS_USED_IN_ARG_OR_ENV "SecretsUsedInArgOrEnv" "secrets-used-in-arg-or-env" false
        "Sensitive data should not be used in the ARG or ENV commands";
    INVALID_DEFAULT_ARG_IN_FROM "InvalidDefaultArgInFrom" "invalid-default-arg-in-from" false
        "Default value for global ARG results in an empty or invalid base image name";
    FROM_PLATFORM_FLAG_CONST_DISALLOWED "FromPlatformFlagConstDisallowed" "from-platform-flag-const-disallowed" false
        "FROM --platform flag should not use a constant value";
    COPY_IGNORED_FILE "CopyIgnoredFile" "copy-ignored-file" true
        "Attempting to Copy file that is excluded by .dockerignore";
    INVALID_DEFINITION_DESCRIPTION "InvalidDefinitionDescription" "invalid-definition-description" true
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not intended to be a description comment, add an empty line or comment between the instruction and the comment.";
    EXPOSE_PROTO_CASING "ExposeProtoCasing" "expose-proto-casing" false
        "Protocol in EXPOSE instruction should be lowercase";
    EXPOSE_INVALID_FORMAT "ExposeInvalidFormat" "expose-invalid-format" false
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future release";
}

/// Which checks are made, and whether their warnings are errors: `skip=A,B;error=true`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// None but experimental ones.
    pub skip_all: bool,
    /// Not these.
    pub skip: Vec<String>,
    /// Experimental ones too.
    pub experimental_all: bool,
    /// Of experimental ones, these.
    pub experimental: Vec<String>,
    /// Whether a warning is an error.
    pub error: bool,
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// An option that is none.
    #[error("failed to parse check options: invalid check option {}", go::quote(.0))]
    Option(String),
    /// `error` is neither true nor false.
    #[error(
        "failed to parse check options: failed to parse check option {}: strconv.ParseBool: parsing \
         {}: invalid syntax",
        go::quote(.0),
        go::quote(.1)
    )]
    Boolean(String, String),
}

impl Settings {
    /// Reads the value of a `check` directive or of `BUILDKIT_DOCKERFILE_CHECK`.
    pub fn parse(text: &str) -> Result<Settings, SettingsError> {
        let mut settings = Settings::default();
        let text = text.trim();
        if text.is_empty() {
            return Ok(settings);
        }
        for part in text.splitn(3, ';') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(SettingsError::Option(part.to_owned()));
            };
            let value = value.trim();
            let names = || value.split(',').map(|name| name.trim().to_owned()).collect();
            match key.trim() {
                "skip" if value == "all" => settings.skip_all = true,
                "skip" => settings.skip = names(),
                "experimental" if value == "all" => settings.experimental_all = true,
                "experimental" => settings.experimental = names(),
                "error" => {
                    let wrong = || SettingsError::Boolean(part.to_owned(), value.to_owned());
                    settings.error = go::boolean(value).ok_or_else(wrong)?;
                }
                key => return Err(SettingsError::Option(key.to_owned())),
            }
        }
        Ok(settings)
    }

    /// Whether a check is made.
    pub fn wants(&self, rule: &Rule) -> bool {
        let named = |names: &[String]| names.iter().any(|name| name == rule.name);
        if rule.experimental {
            self.experimental_all || named(&self.experimental)
        } else {
            !self.skip_all && !named(&self.skip)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_buildkit_has() {
        assert_eq!(ALL.len(), 22);
    }

    #[test]
    fn settings_switch_checks() {
        let settings = Settings::parse("skip=StageNameCasing, UndefinedVar;error=true").unwrap();
        assert!(settings.error && !settings.wants(STAGE_NAME_CASING));
        assert!(!settings.wants(UNDEFINED_VAR) && settings.wants(FROM_AS_CASING));
        assert!(!settings.wants(COPY_IGNORED_FILE));
        let all = Settings::parse("skip=all;experimental=all").unwrap();
        assert!(!all.wants(FROM_AS_CASING) && all.wants(COPY_IGNORED_FILE));
        assert!(Settings::parse("experimental=CopyIgnoredFile").unwrap().wants(COPY_IGNORED_FILE));
        for (text, expected) in [
            ("skip", "failed to parse check options: invalid check option \"skip\""),
            ("a=b", "failed to parse check options: invalid check option \"a\""),
            (
                "error=x",
                "failed to parse check options: failed to parse check option \"error=x\": \
                strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(Settings::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
