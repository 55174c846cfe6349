//! Every path leads where the table says, and nowhere else.

use super::find::SEGMENTS_MAX;
use super::*;

fn endpoint(method: Method, path: &str) -> Option<(Endpoint, Vec<String>)> {
    match Table::new().find(&method, path) {
        Found::Route(index, captures) => Some((ROUTES[index].endpoint, captures.unwrap())),
        _ => None,
    }
}

fn allow(method: Method, path: &str) -> Option<String> {
    match Table::new().find(&method, path) {
        Found::Method(_, allow) => Some(allow),
        _ => None,
    }
}

#[test]
fn every_route_is_reached_by_its_own_pattern() {
    for route in ROUTES {
        let path = route
            .pattern
            .replace("{function}", "echo")
            .replace("{namespace}", "default")
            .replace("{secret}", "KEY")
            .replace("{id}", "k1")
            .replace("{node}", "n1")
            .replace("{group}", "data-1")
            .replace("{key}", "r1");
        assert!(path.split('/').skip(1).count() <= SEGMENTS_MAX, "{path}");
        let found = endpoint(route.method.clone(), &path).map(|f| f.0);
        assert_eq!(found, Some(route.endpoint), "{path}");
    }
}

#[test]
fn a_secret_called_invoke_stays_a_secret() {
    let path = "/v1/functions/secrets/invoke";
    assert_eq!(
        endpoint(Method::DELETE, path),
        Some((Endpoint::DeleteSecret, vec!["invoke".into()]))
    );
    assert_eq!(
        allow(Method::POST, path).as_deref(),
        Some("DELETE, OPTIONS")
    );
    assert_eq!(
        allow(Method::DELETE, "/v1/functions/secrets").as_deref(),
        Some("GET, PUT, HEAD, OPTIONS")
    );
}

#[test]
fn the_cluster_is_the_operators() {
    let of_cluster = |r: &&Route| r.pattern.starts_with("/v1/admin/");
    assert!(ROUTES.iter().filter(of_cluster).count() > 10);
    for route in ROUTES.iter().filter(of_cluster) {
        assert_eq!(route.policy, Policy::Admin, "{}", route.pattern);
    }
}

#[test]
fn only_whole_paths_match() {
    for path in [
        "/",
        "",
        "/v1",
        "/v1/functions/",
        "/v1/functions//invoke",
        "/v1/functions/a/ws",
        "/v1/functions/a/invoke/",
        "/v1/functions/a/invoke/b/c/d/e",
        "/V1/health",
        "//health",
    ] {
        assert!(
            matches!(Table::new().find(&GET, path), Found::Nothing),
            "{path}"
        );
    }
    assert_eq!(
        endpoint(Method::HEAD, "/health").map(|f| f.0),
        Some(Endpoint::Health)
    );
}

#[test]
fn captures_are_decoded_once() {
    let found = endpoint(POST, "/v1/functions/a%252Fb%40/invoke");
    assert_eq!(found, Some((Endpoint::Invoke, vec!["a%2Fb@".into()])));
    for bad in [
        "/v1/functions/a%2/invoke",
        "/v1/functions/a%zz/invoke",
        "/v1/functions/%ff/invoke",
    ] {
        assert!(
            matches!(Table::new().find(&POST, bad), Found::Route(_, Err(_))),
            "{bad}"
        );
    }
}
