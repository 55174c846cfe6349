//! The settings in a deploy form: `metadata` first, fields of their own over
//! it (CONTRACT 2.4). Everything is strict: what cannot be read is a 400 that
//! names it, because a setting that is silently ignored shows itself only in
//! production.

use orama_proto::api::DeployMetadata;
use orama_proto::function::FunctionSpec;
use orama_proto::limits;
use orama_proto::manifest::nearest;
use orama_proto::{ApiError, FunctionName, Namespace};

use crate::gateway::body::parse_json;
use crate::gateway::credential::forbidden;

/// Every text part there is.
const FIELDS: &[&str] = &[
    "metadata",
    "name",
    "namespace",
    "is_public",
    "is_internal",
    "memory_limit_mb",
    "timeout_seconds",
    "retry_count",
    "retry_delay_seconds",
];

/// Text parts as they arrived, each at most once.
#[derive(Default)]
pub(super) struct Fields {
    metadata: Option<DeployMetadata>,
    form: DeployMetadata,
    seen: Vec<&'static str>,
}

/// What a form says about the function.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The function.
    pub(crate) name: FunctionName,
    /// Its settings, valid.
    pub(crate) spec: FunctionSpec,
}

impl Fields {
    /// The field of this name, which must be known and new.
    ///
    /// # Errors
    /// 400 naming the part.
    pub(super) fn admit(&mut self, name: &str) -> Result<&'static str, ApiError> {
        let Some(known) = FIELDS.iter().find(|field| **field == name) else {
            let shown: String = name.chars().take(80).collect();
            let hint = nearest(name, FIELDS)
                .map(|field| format!(", did you mean '{field}'?"))
                .unwrap_or_default();
            return Err(ApiError::validation(format!(
                "Failed to parse form: unknown part {shown:?}{hint}"
            )));
        };
        if self.seen.contains(known) {
            return Err(ApiError::validation(format!(
                "Failed to parse form: the part '{known}' is given twice"
            )));
        }
        self.seen.push(known);
        Ok(known)
    }

    /// Takes the text of an admitted field.
    ///
    /// # Errors
    /// 400 naming the field.
    pub(super) fn set(&mut self, field: &'static str, bytes: &[u8]) -> Result<(), ApiError> {
        if field == "metadata" {
            self.metadata = Some(parse_json("metadata", bytes)?);
            return Ok(());
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| ApiError::validation(format!("{field} must be UTF-8 text")))?;
        let form = &mut self.form;
        match field {
            "name" => form.name = Some(text.to_owned()),
            "namespace" => form.namespace = Some(text.to_owned()),
            "is_public" => form.is_public = Some(flag(field, text)?),
            "is_internal" => form.is_internal = Some(flag(field, text)?),
            "memory_limit_mb" => form.memory_limit_mb = Some(number(field, text)?),
            "timeout_seconds" => form.timeout_seconds = Some(number(field, text)?),
            "retry_count" => form.retry_count = Some(number(field, text)?),
            _ => form.retry_delay_seconds = Some(number(field, text)?),
        }
        Ok(())
    }

    /// Puts metadata and fields together for the credential's namespace.
    ///
    /// # Errors
    /// 400 naming the field and its limit, 403 for another namespace.
    pub(super) fn finish(self, namespace: &Namespace) -> Result<Settings, ApiError> {
        let meta = self.metadata.unwrap_or_default();
        let form = self.form;
        for given in [&form.namespace, &meta.namespace].into_iter().flatten() {
            if !given.is_empty() && given != namespace.as_str() {
                return Err(forbidden(
                    "the form names another namespace than the credential's",
                ));
            }
        }
        let name = form
            .name
            .or(meta.name)
            .filter(|name| !name.is_empty())
            .ok_or_else(|| ApiError::validation("Function name required"))?;
        let name = FunctionName::parse(&name)?;
        let memory_limit_mb = form.memory_limit_mb.or(meta.memory_limit_mb);
        let or_default = |value: Option<u32>, default| value.filter(|n| *n > 0).unwrap_or(default);
        let spec = FunctionSpec {
            is_public: form.is_public.or(meta.is_public).unwrap_or(false),
            is_internal: form.is_internal.or(meta.is_internal).unwrap_or(false),
            // A zero here is refused below, not taken for the default: nobody
            // who writes it means 64.
            memory_limit_mb: memory_limit_mb.unwrap_or(limits::MEMORY_DEFAULT_MB),
            timeout_seconds: or_default(
                form.timeout_seconds.or(meta.timeout_seconds),
                limits::TIMEOUT_DEFAULT_SECS,
            ),
            retry_count: form.retry_count.or(meta.retry_count).unwrap_or(0),
            retry_delay_seconds: or_default(
                form.retry_delay_seconds.or(meta.retry_delay_seconds),
                limits::RETRY_DELAY_DEFAULT_SECS,
            ),
            env_vars: form.env_vars.or(meta.env_vars).unwrap_or_default(),
        };
        spec.validate()?;
        Ok(Settings { name, spec })
    }
}

/// The texts Go's `strconv.ParseBool` knows, since Go clients write them.
fn flag(field: &str, text: &str) -> Result<bool, ApiError> {
    match text.trim() {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(wrong(field, "true or false", other)),
    }
}

fn number(field: &str, text: &str) -> Result<u32, ApiError> {
    let text = text.trim();
    // `parse` takes a leading plus.
    Some(text)
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| wrong(field, "a plain whole number", text))
}

fn wrong(field: &str, rule: &str, given: &str) -> ApiError {
    let shown: String = given.chars().take(40).collect();
    let range = match field {
        "memory_limit_mb" => " between 1 and 256 MB",
        "timeout_seconds" => " between 1 and 300 seconds",
        _ => "",
    };
    ApiError::validation(format!("{field} must be {rule}{range} (got {shown:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(parts: &[(&str, &str)]) -> Result<Settings, ApiError> {
        let mut fields = Fields::default();
        for (name, value) in parts {
            let field = fields.admit(name)?;
            fields.set(field, value.as_bytes())?;
        }
        fields.finish(&Namespace::parse("shop").unwrap())
    }

    fn problem(parts: &[(&str, &str)]) -> String {
        settings(parts).unwrap_err().message
    }

    #[test]
    fn fields_overlay_metadata() {
        let found = settings(&[
            ("name", "over"),
            ("timeout_seconds", "7"),
            (
                "metadata",
                r#"{"name":"under","timeout_seconds":9,"retry_count":2,"env_vars":{"A":"1"}}"#,
            ),
            ("is_public", "TRUE"),
            ("namespace", "shop"),
        ])
        .unwrap();
        assert_eq!(found.name.as_str(), "over");
        assert_eq!(found.spec.timeout_seconds, 7);
        assert_eq!(found.spec.retry_count, 2);
        assert!(found.spec.is_public);
        assert_eq!(found.spec.env_vars["A"], "1");
        assert_eq!(found.spec.memory_limit_mb, 64);
    }

    #[test]
    fn zero_is_the_default_but_for_memory() {
        let found = settings(&[
            ("name", "f"),
            ("timeout_seconds", "0"),
            ("retry_count", "0"),
            ("retry_delay_seconds", "0"),
        ]);
        assert_eq!(found.unwrap().spec, FunctionSpec::default());
        let text = problem(&[("name", "f"), ("memory_limit_mb", "0")]);
        assert_eq!(text, "memory_limit_mb must be between 1 and 256 MB (got 0)");
    }

    #[test]
    fn wrong_values_name_the_field() {
        for (field, value, expected) in [
            (
                "memory_limit_mb",
                "257",
                "memory_limit_mb must be between 1 and 256",
            ),
            (
                "memory_limit_mb",
                "64MB",
                "memory_limit_mb must be a plain whole number",
            ),
            ("memory_limit_mb", "-1", "memory_limit_mb"),
            ("memory_limit_mb", "", "memory_limit_mb"),
            (
                "timeout_seconds",
                "301",
                "timeout_seconds must be between 1 and 300",
            ),
            ("retry_count", "6", "retry_count"),
            ("retry_count", "99999999999", "retry_count"),
            ("is_public", "yes", "is_public must be true or false"),
            (
                "metadata",
                r#"{"memory_limit_mb":"64MB"}"#,
                "Invalid metadata JSON: memory_limit_mb",
            ),
            ("metadata", "{", "Invalid metadata JSON"),
            ("memory_limt_mb", "1", "did you mean 'memory_limit_mb'"),
        ] {
            let text = problem(&[("name", "f"), (field, value)]);
            assert!(text.contains(expected), "{field}={value}: {text}");
        }
        assert_eq!(problem(&[]), "Function name required");
        assert_eq!(problem(&[("name", "")]), "Function name required");
        assert!(problem(&[("name", "a/b")]).contains("function name"));
        assert!(problem(&[("name", "f"), ("name", "g")]).contains("'name' is given twice"));
    }

    #[test]
    fn another_namespace_is_forbidden() {
        for parts in [
            [("name", "f"), ("namespace", "other")],
            [("name", "f"), ("metadata", r#"{"namespace":"other"}"#)],
        ] {
            assert_eq!(settings(&parts).unwrap_err().code.status(), 403);
        }
    }
}
