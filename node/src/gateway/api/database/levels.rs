//! How fresh a read must be: fields of the body, or parameters of the query as
//! users of rqlite write them. The body goes before the query.

use orama_actors::sql::BatchRequest;
use orama_proto::ApiError;
use orama_proto::sql::ReadOptions;
use serde_json::json;

use super::refused;
use crate::gateway::path;

/// What a body says.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// `level`.
    pub(super) level: Option<String>,
    /// `consistency`, the same under the name that functions know.
    pub(super) consistency: Option<String>,
    /// `freshness`.
    pub(super) freshness: Option<String>,
    /// `freshness_strict`.
    pub(super) strict: Option<bool>,
}

impl Wanted {
    /// Takes from the query what the body leaves open, and reads it.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(super) fn options(self, query: &str) -> Result<ReadOptions, ApiError> {
        let of_query = |name| -> Result<Option<String>, ApiError> {
            Ok(path::query(query, name)?.map(std::borrow::Cow::into_owned))
        };
        let level = match (self.level, self.consistency) {
            (Some(level), Some(other)) if level != other => {
                return Err(ApiError::validation(
                    "consistency: says something else than level, which it is another name of",
                ));
            }
            (Some(level), _) | (None, Some(level)) => Some(level),
            (None, None) => match of_query("level")? {
                Some(level) => Some(level),
                None => of_query("consistency")?,
            },
        };
        let freshness = match self.freshness {
            Some(freshness) => Some(freshness),
            None => of_query("freshness")?,
        };
        let strict = match (self.strict, of_query("freshness_strict")?.as_deref()) {
            (Some(strict), _) => strict,
            (None, None | Some("0" | "false")) => false,
            (None, Some("" | "1" | "true")) => true,
            (None, Some(_)) => {
                return Err(ApiError::validation("freshness_strict: must be 1 or 0"));
            }
        };
        if level.is_none() && freshness.is_none() && !strict {
            return Ok(ReadOptions::default());
        }
        // Read where functions' reads are read, so that both take the same.
        let request = json!({
            "ops": [{"sql": "SELECT 1"}],
            "consistency": level.map(|level| level.to_ascii_lowercase()),
            "freshness": freshness,
            "freshness_strict": strict,
        });
        BatchRequest::parse(request.to_string().as_bytes())
            .map(|request| request.read)
            .map_err(|mut error| {
                error.message = error.message.replacen("consistency", "level", 1);
                refused(error)
            })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orama_proto::sql::ReadLevel;

    use super::*;

    fn level(level: &str) -> Wanted {
        Wanted {
            level: Some(level.into()),
            ..Wanted::default()
        }
    }

    #[test]
    fn the_body_goes_before_the_query() {
        let read = |wanted: Wanted, query| wanted.options(query).unwrap();
        let nothing = Wanted::default;
        assert_eq!(read(nothing(), ""), ReadOptions::default());
        assert_eq!(read(nothing(), "level=NONE").level, ReadLevel::None);
        assert_eq!(read(nothing(), "consistency=weak").level, ReadLevel::Weak);
        assert_eq!(
            read(level("strong"), "level=none").level,
            ReadLevel::Linearizable
        );
        let options = read(nothing(), "level=none&freshness=1m30s&freshness_strict");
        assert_eq!(options.freshness, Some(Duration::from_secs(90)));
        assert!(options.strict);
    }

    #[test]
    fn wrong_ones_are_named() {
        let wrong = |wanted: Wanted, query| wanted.options(query).unwrap_err();
        let error = wrong(level("fresh"), "");
        assert_eq!(error.code.status(), 400);
        assert!(error.message.starts_with("level"), "{error}");
        let both = Wanted {
            consistency: Some("none".into()),
            ..level("weak")
        };
        assert!(wrong(both, "").message.starts_with("consistency"));
        for (query, field) in [
            ("freshness=soon", "freshness"),
            ("freshness_strict=yes", "freshness_strict"),
            ("level=", ""),
        ] {
            let read = Wanted::default().options(query);
            match field {
                "" => assert_eq!(read.unwrap().level, ReadLevel::Linearizable),
                field => assert!(read.unwrap_err().message.starts_with(field)),
            }
        }
    }
}
