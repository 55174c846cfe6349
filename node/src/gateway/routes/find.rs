//! From a path and a method to a line of the table.

use actix_web::http::Method;
use orama_proto::ApiError;

use super::{GET, ROUTES, Route};
use crate::gateway::path;

/// Segments of the longest pattern.
pub(super) const SEGMENTS_MAX: usize = 7;

/// What a path and method lead to.
#[derive(Debug)]
pub(crate) enum Found {
    /// A line of the table, by index, and the decoded captures in order.
    Route(usize, Result<Vec<String>, ApiError>),
    /// The path exists, the method does not; the pattern and the value of `Allow`.
    Method(&'static str, String),
    /// No such path.
    Nothing,
}

/// The table, with its patterns cut into segments.
#[derive(Debug)]
pub(crate) struct Table {
    segments: Vec<Vec<&'static str>>,
}

impl Table {
    /// Cuts the patterns.
    pub(crate) fn new() -> Self {
        let cut = |route: &Route| route.pattern.split('/').skip(1).collect();
        Self {
            segments: ROUTES.iter().map(cut).collect(),
        }
    }

    /// Finds what `path`, still percent-encoded, leads to.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found {
        let mut given = [""; SEGMENTS_MAX];
        let mut count = 0;
        for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
            let Some(place) = given.get_mut(count) else {
                return Found::Nothing;
            };
            *place = segment;
            count += 1;
        }
        let given = &given[..count];
        let Some(first) = self.segments.iter().position(|s| fits(s, given)) else {
            return Found::Nothing;
        };
        let pattern = ROUTES[first].pattern;
        let wanted = if method == Method::HEAD { &GET } else { method };
        let same = || {
            ROUTES
                .iter()
                .enumerate()
                .filter(|(_, r)| r.pattern == pattern)
        };
        match same().find(|(_, route)| route.method == *wanted) {
            Some((index, _)) => Found::Route(index, captures(&self.segments[index], given)),
            None => {
                let mut allow: Vec<&str> = same().map(|(_, r)| r.method.as_str()).collect();
                if allow.contains(&"GET") {
                    allow.push("HEAD");
                }
                allow.push("OPTIONS");
                Found::Method(pattern, allow.join(", "))
            }
        }
    }
}

fn fits(pattern: &[&str], given: &[&str]) -> bool {
    pattern.len() == given.len()
        && pattern.iter().zip(given).all(|(want, have)| {
            if want.starts_with('{') {
                !have.is_empty()
            } else {
                want == have
            }
        })
}

fn captures(pattern: &[&'static str], given: &[&str]) -> Result<Vec<String>, ApiError> {
    pattern
        .iter()
        .zip(given)
        .filter(|(want, _)| want.starts_with('{'))
        .map(|(_, have)| path::decode(have, false).map(std::borrow::Cow::into_owned))
        .collect()
}
