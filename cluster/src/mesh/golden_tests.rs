//! What peers greet each other with stays what it is.

use orama_proto::ClusterId;

use super::hello::{Greeting, Hello};
use crate::golden::Golden;

#[test]
fn golden_greetings() {
    let mut golden = Golden::open("greetings");
    let hello = Hello {
        name: "n1".into(),
        version: "0.1.0".into(),
        addresses: vec!["/ip4/127.0.0.1/tcp/1".into()],
        cluster: Some(ClusterId(0x1234)),
    };
    for (sample, greeting) in [
        ("hello", Greeting::Hello(hello)),
        ("ping", Greeting::Ping),
        ("retire", Greeting::Retire),
    ] {
        golden.holds(sample, &greeting.encode().unwrap(), |bytes| {
            Greeting::decode(bytes).unwrap().encode().unwrap()
        });
    }
}
