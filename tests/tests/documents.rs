//! What the documents name is there: commands and flags, settings, files, headings.
//! (`dashboards.rs` does the same for metrics.)

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use orama_proto::ErrorCode;
use orama_tests::orama_binary;

/// Flags in the documents that are not of `orama`, and whose they are.
const FLAGS_OF_OTHERS: &[(&str, &str)] = &[
    ("--keep", "quickstart, deploy/three-nodes"),
    ("--cascade", "kubectl"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Name and text of everything that is written for people.
fn documents() -> Vec<(String, String)> {
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"]
        .iter()
        .map(|name| root().join(name))
        .collect();
    for dir in ["docs", "deploy", "deploy/prometheus", "charts/orama"] {
        for entry in std::fs::read_dir(root().join(dir)).unwrap() {
            let path = entry.unwrap().path();
            if matches!(
                path.extension().and_then(|e| e.to_str()),
                Some("md" | "yaml")
            ) {
                paths.push(path);
            }
        }
    }
    paths.push(root().join("charts/orama/templates/NOTES.txt"));
    paths
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// What stands between backticks on a line, and the lines of fenced blocks, a continued one
/// with what follows it.
fn code(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    let mut open: Option<String> = None;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if fenced {
            let mut whole = open.take().unwrap_or_default();
            match line.strip_suffix('\\') {
                Some(part) => open = Some(whole + part),
                None => {
                    whole.push_str(line);
                    found.push(whole);
                }
            }
        }
    }
    // Spans may be broken over two lines.
    let prose = text.split("```").step_by(2);
    for part in prose {
        let spans = part.split('`').skip(1).step_by(2);
        found.extend(spans.map(|span| span.replace('\n', " ")));
    }
    found
}

fn help(path: &[String]) -> String {
    let output = Command::new(orama_binary())
        .args(path)
        .arg("--help")
        .output()
        .unwrap();
    assert!(output.status.success(), "{path:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn flags(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        .filter(|word| word.len() > 2 && word.starts_with("--"))
        .map(str::to_owned)
        .collect()
}

/// A command of `orama`: the commands below it and its flags.
#[derive(Default)]
struct Known {
    below: BTreeMap<String, Known>,
    flags: BTreeSet<String>,
}

impl Known {
    fn ask(path: &mut Vec<String>) -> Self {
        let text = help(path);
        let list = text.split("Commands:\n").nth(1).unwrap_or_default();
        let names = list
            .lines()
            .take_while(|line| line.starts_with("  "))
            .filter(|line| !line.starts_with("   "))
            .filter_map(|line| line.split_whitespace().next())
            .filter(|name| *name != "help");
        let mut below = BTreeMap::new();
        for name in names {
            path.push(name.to_owned());
            below.insert(name.to_owned(), Self::ask(path));
            path.pop();
        }
        let options = text.split("Options:").skip(1).collect::<String>();
        Self {
            below,
            flags: flags(&options),
        }
    }

    fn all_flags(&self, into: &mut BTreeSet<String>) {
        into.extend(self.flags.iter().cloned());
        for one in self.below.values() {
            one.all_flags(into);
        }
    }

    /// Whether these words are a command, as far as they name one; `a|b` are two.
    fn check(&self, words: &[&str]) -> Result<(), String> {
        let Some((word, rest)) = words.split_first() else {
            return Ok(());
        };
        if let Some(flag) = flags(word).first() {
            return match self.flags.contains(flag) {
                true => self.check(rest),
                false => Err(format!("has no {flag}")),
            };
        }
        if self.below.is_empty() {
            return self.check(rest);
        }
        for name in word.split('|') {
            match self.below.get(name) {
                Some(command) => command.check(rest)?,
                // The value of a flag before the command.
                None if !name.bytes().all(|b| b.is_ascii_lowercase()) => self.check(rest)?,
                None => return Err(format!("has no command {name}")),
            }
        }
        Ok(())
    }
}

/// The words of each call of `orama` in a piece of code, without what the shell does around it.
fn calls(code: &str) -> Vec<Vec<&str>> {
    let code = code.split(" #").next().unwrap_or_default();
    let mut found = Vec::new();
    for part in code.split(['(', ')', ';', '&']) {
        let mut words = part.split_whitespace();
        if words.any(|word| word == "orama" || word.ends_with("/orama")) {
            // What is piped on belongs to others; so do values in quotes.
            found.push(
                words
                    .take_while(|word| *word != "|" && !word.starts_with('\''))
                    .collect(),
            );
        }
    }
    found
}

#[test]
fn commands_and_flags_exist() {
    let known = Known::ask(&mut Vec::new());
    let mut all = BTreeSet::new();
    known.all_flags(&mut all);
    all.extend(FLAGS_OF_OTHERS.iter().map(|(flag, _)| (*flag).to_owned()));
    let (mut seen, mut wrong) = (0, Vec::new());
    for (name, text) in documents() {
        for code in code(&text) {
            for call in calls(&code) {
                seen += 1;
                if let Err(error) = known.check(&call) {
                    wrong.push(format!("{name}: `{code}`: orama {error}"));
                }
            }
            // A flag by itself is one of some command.
            if code.starts_with("--") {
                let unknown = flags(&code).into_iter().find(|flag| !all.contains(flag));
                wrong.extend(unknown.map(|flag| format!("{name}: {flag}")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(seen > 30, "{seen}");
}

#[test]
fn settings_exist() {
    let run = help(&["node".into(), "run".into()]);
    let dev = help(&["dev".into()]);
    let known = run + &dev + &help(&[]);
    let mut seen = 0;
    for (name, text) in documents() {
        let words = text.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
        for word in words.filter(|word| word.starts_with("ORAMA_") && word.len() > 6) {
            // Any setting may be in a file instead; the build's are not the program's.
            let setting = word.strip_suffix("_FILE").unwrap_or(word);
            let of_build = word.starts_with("ORAMA_BUILD_");
            assert!(of_build || known.contains(setting), "{name}: {word}");
            seen += 1;
        }
    }
    assert!(seen > 30, "{seen}");
}

/// As the places that show Markdown make it from a heading.
fn anchor(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

fn anchors(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap();
    let prose: String = text.split("```").step_by(2).collect();
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| anchor(line.trim_start_matches('#').trim()))
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut seen = 0;
    for (name, text) in documents() {
        let path = root().join(&name);
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            if target.contains("://") || !name.ends_with(".md") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let to = match file {
                "" => path.clone(),
                file => path.parent().unwrap().join(file),
            };
            assert!(to.exists(), "{name}: {target}");
            let found = heading.is_empty() || anchors(&to).contains(heading);
            assert!(found, "{name}: {target}: no such heading");
            seen += 1;
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn files_exist() {
    const TOPS: &[&str] = &[
        "proto", "cluster", "actors", "node", "tests", "benches", "sdk", "docs", "deploy",
        "charts", "scripts",
    ];
    let mut seen = 0;
    for (name, text) in documents() {
        for code in code(&text) {
            for word in code.split_whitespace() {
                let top = word.split_once('/').map(|(top, _)| top);
                if top.is_some_and(|top| TOPS.contains(&top)) {
                    let path = word.split('#').next().unwrap_or_default();
                    assert!(root().join(path).exists(), "{name}: {word}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

#[test]
fn errors_have_the_status_that_is_written() {
    let text = std::fs::read_to_string(root().join("docs/errors.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| ["));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = cells[1].split([']', '[']).nth(1).unwrap();
        let code: ErrorCode = serde_json::from_value(name.into()).unwrap();
        assert_eq!(cells[2], code.status().to_string(), "{row}");
        let retryable = if code.retryable() { "yes" } else { "no" };
        assert_eq!(cells[3], retryable, "{row}");
        seen += 1;
    }
    let source = std::fs::read_to_string(root().join("proto/src/error.rs")).unwrap();
    let statuses = source.split("pub fn as_str").nth(1).unwrap();
    let codes = statuses
        .lines()
        .take_while(|line| !line.starts_with("    }"))
        .filter(|line| line.contains("=> \""));
    assert_eq!(seen, codes.count(), "a code without a row");
}
