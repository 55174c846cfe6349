//! Who may ask for what, and with which credential.

use actix_web::test::TestRequest;
use orama_proto::ErrorCode;

use super::{send, with_key};
use crate::gateway::routes::{Policy, ROUTES};

#[actix_web::test]
async fn every_route_holds_its_policy() {
    for route in ROUTES {
        let path = route
            .pattern
            .replace("{function}", "echo")
            .replace("{namespace}", "shop")
            .replace("{secret}", "KEY")
            .replace("{id}", "k1");
        let status = async |credential: Option<&str>| {
            let request = TestRequest::default()
                .method(route.method.clone())
                .uri(&path);
            let request = match credential {
                Some(text) => request.insert_header(("authorization", format!("Bearer {text}"))),
                None => request,
            };
            send(request).await.status
        };
        let refused = [401, 403];
        let none = status(None).await;
        let wrong = status(Some("wrong")).await;
        let key = status(Some("key-shop")).await;
        let user = status(Some("user.jwt.shop")).await;
        let owner = status(Some("owner.jwt.shop")).await;
        let admin = status(Some("admin")).await;
        let row = (none, wrong, key, user, owner, admin);
        let holds = match route.policy {
            Policy::Public => ![none, wrong, key, user, admin]
                .iter()
                .any(|s| refused.contains(s)),
            Policy::Optional => {
                wrong == 401 && ![none, key, user, admin].iter().any(|s| refused.contains(s))
            }
            Policy::Owner => {
                (none, wrong, user, admin) == (401, 401, 403, 403)
                    && ![key, owner].iter().any(|s| refused.contains(s))
            }
            Policy::Admin => {
                (none, wrong, key, user, owner) == (401, 401, 403, 403, 403)
                    && !refused.contains(&admin)
            }
        };
        assert!(holds, "{} {path}: {row:?}", route.method);
    }
}

#[actix_web::test]
async fn a_credential_from_another_node_is_looked_up_again() {
    let ask = async |headers: &[(&'static str, &'static str)]| {
        let request = TestRequest::get().uri("/v1/functions/f");
        let request = headers.iter().fold(request, |r, h| r.insert_header(*h));
        let answer = send(request).await;
        (answer.status, answer.body)
    };
    let known = ask(&[("x-api-key", "key-shop")]).await;
    assert_eq!(known.0, 200);
    assert_eq!(ask(&[("x-api-key", "new-shop")]).await, known);
    // Both are looked up, and they still have to agree.
    let both = [
        ("x-api-key", "new-shop"),
        ("authorization", "Bearer key-shop"),
    ];
    assert_eq!(ask(&both).await, known);
    let both = [
        ("x-api-key", "new-shop"),
        ("authorization", "Bearer key-other"),
    ];
    assert_eq!(ask(&both).await.0, 403);
    // Nobody is told that a credential is wrong while that is not known.
    assert_eq!(ask(&[("x-api-key", "no-leader")]).await.0, 503);
    assert_eq!(ask(&[("x-api-key", "wrong")]).await.0, 401);
}

#[actix_web::test]
async fn a_wrong_credential_is_401_with_a_challenge() {
    let request = TestRequest::post()
        .uri("/v1/functions/echo/invoke")
        .insert_header(("x-api-key", "ak_wrong:shop"));
    let answer = send(request).await;
    let error = answer.error();
    assert_eq!(error.code, ErrorCode::Unauthorized);
    assert!(!error.message.contains("ak_wrong"));
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}

#[actix_web::test]
async fn the_host_must_agree_with_the_credential() {
    let request = || with_key(TestRequest::get().uri("/v1/functions"));
    let answer = send(request().insert_header(("host", "ns-shop.example.com:6001"))).await;
    assert_eq!(answer.status, 200);
    let answer = send(request().insert_header(("host", "ns-other.example.com"))).await;
    assert_eq!(answer.error().code, ErrorCode::Forbidden);
    let two = request().insert_header(("x-api-key", "key-other"));
    assert_eq!(send(two).await.error().code, ErrorCode::Forbidden);
}
