//! Random steps, against a list.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<(u8, u8, u64)>),
    Prune { before: u64, per_function: usize },
    DeleteNamespace(u8),
    Reopen,
}

const NAMESPACES: [&str; 3] = ["aa", "aa-b", "ab"];
const FUNCTIONS: [&str; 3] = ["f", "f-1", "g"];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let row = (0..3u8, 0..3u8, 0..1_000u64);
    let step = prop_oneof![
        6 => prop::collection::vec(row, 0..20).prop_map(Step::Append),
        2 => (0..1_200u64, 0..15usize)
            .prop_map(|(before, per_function)| Step::Prune { before, per_function }),
        1 => (0..3u8).prop_map(Step::DeleteNamespace),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..12)
}

/// All records, oldest first within a function, as the store should have them.
type Model = Vec<InvocationRecord>;

fn expected(model: &Model, query: &JournalQuery) -> Vec<InvocationRecord> {
    let mut found: Vec<_> = model
        .iter()
        .filter(|r| r.namespace == query.namespace && r.function == query.function)
        .filter(|r| query.after.as_ref().is_none_or(|after| r.id > *after))
        .filter(|r| {
            query
                .request_id
                .as_ref()
                .is_none_or(|id| r.request_id == *id)
        })
        .cloned()
        .collect();
    found.sort_by(|a, b| b.id.cmp(&a.id));
    found.truncate(query.limit);
    found
}

fn prune_model(model: &mut Model, before: u64, per_function: usize) -> u64 {
    let count = model.len();
    let mut kept = Model::new();
    for ns in NAMESPACES {
        for function in FUNCTIONS {
            let newest = expected(model, &ask(ns, function, per_function));
            kept.extend(
                newest
                    .into_iter()
                    .filter(|r| r.started_at.0 / 1_000 >= before),
            );
        }
    }
    *model = kept;
    (count - model.len()) as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn it_agrees_with_a_list(steps in steps(), limit in 0..30usize, after in 0..1_000u64, request in 0..8u64) {
        let mut place = place();
        let mut model = Model::new();
        let mut counter = 0;
        for step in steps {
            match step {
                Step::Append(rows) => {
                    let mut batch = Vec::new();
                    for (ns, function, ms) in rows {
                        counter += 1;
                        batch.push(record(NAMESPACES[ns as usize], FUNCTIONS[function as usize], T0 + ms, counter));
                    }
                    place.store.append(&batch).unwrap();
                    // A batch that is tried again changes nothing.
                    place.store.append(&batch).unwrap();
                    model.extend(batch);
                }
                Step::Prune { before, per_function } => {
                    let gone = place.store.prune(Timestamp((T0 + before) * 1_000), per_function).unwrap();
                    prop_assert_eq!(gone, prune_model(&mut model, T0 + before, per_function));
                }
                Step::DeleteNamespace(ns) => {
                    let ns = Namespace::parse(NAMESPACES[ns as usize]).unwrap();
                    let count = model.len();
                    model.retain(|r| r.namespace != ns);
                    prop_assert_eq!(place.store.delete_namespace(&ns).unwrap(), (count - model.len()) as u64);
                }
                Step::Reopen => place = place.reopen(),
            }
            prop_assert_eq!(place.store.stats().unwrap().records, model.len() as u64);
        }
        for ns in NAMESPACES {
            for function in FUNCTIONS {
                let mut query = ask(ns, function, limit);
                prop_assert_eq!(place.store.query(&query).unwrap(), expected(&model, &query));
                query.request_id = Some(RequestId::from(format!("request-{request}").as_str()));
                prop_assert_eq!(place.store.query(&query).unwrap(), expected(&model, &query));
                query.after = Some(id(T0 + after, 5));
                prop_assert_eq!(place.store.query(&query).unwrap(), expected(&model, &query));
            }
        }
        prop_assert_eq!(place.store.stats().unwrap().unreadable, 0);
    }
}
