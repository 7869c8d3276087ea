//! Compares the documents with the program: README's tables of metrics, keys and variables in both directions, and the runbook's quotes of
//! the log. Also finds numbers in prose that the next change makes wrong, and broken links.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::world::{BINARY, World};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of the rows of the table whose head begins with these words.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let rows = text.lines().skip_while(|line| !line.starts_with(head)).skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table begins with {head}");
    rows
}

/// The texts between backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The labels of a metric, each with its values. Labels whose values depend on the user, such as the channel, have none.
type Labels = BTreeMap<String, BTreeSet<String>>;

/// Labels whose values depend on who runs the program.
const OPEN_LABELS: [&str; 4] = ["channel", "version", "revision", "severity"];

fn labels_of_cell(cell: &str) -> Labels {
    // Groups are separated by `;`; labels without values by `,`.
    let mut labels = Labels::new();
    for group in cell.split(';').filter(|group| !group.trim().is_empty()) {
        let (names, values) = group.split_once(':').unwrap_or((group, ""));
        let names = quoted(names);
        for &name in &names {
            labels.entry(name.to_owned()).or_default();
        }
        let last = names.last().unwrap_or_else(|| panic!("no label in {cell:?}"));
        labels.entry((*last).to_owned()).or_default().extend(quoted(values).into_iter().map(str::to_owned));
    }
    labels
}

#[tokio::test]
async fn readme_has_every_metric_and_no_other() {
    let documented: BTreeMap<String, Labels> = table(&read("README.md"), "| metric |")
        .into_iter()
        .flat_map(|row| {
            quoted(&row[0]).into_iter().map(|name| (name.to_owned(), labels_of_cell(&row[1]))).collect::<Vec<_>>()
        })
        .collect();

    let world = World::new().await;
    let worker = world.worker().await;
    let mut exported = BTreeMap::<String, Labels>::new();
    for sample in worker.metrics().await.unwrap().samples() {
        let Some(name) = sample.name.strip_prefix("ecs_slack_alerts_") else { continue };
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        let labels = exported.entry(base.to_owned()).or_default();
        for (label, value) in sample.labels.iter().filter(|(label, _)| label.as_str() != "le") {
            let values = labels.entry(label.clone()).or_default();
            if !OPEN_LABELS.contains(&label.as_str()) {
                values.insert(value.clone());
            }
        }
    }
    for labels in documented.values() {
        for (label, values) in labels.iter().filter(|(label, _)| OPEN_LABELS.contains(&label.as_str())) {
            assert!(values.is_empty(), "README lists values of the label {label}");
        }
    }
    let names = |metrics: &BTreeMap<String, Labels>| metrics.keys().cloned().collect::<BTreeSet<_>>();
    let (in_readme, at_metrics) = (names(&documented), names(&exported));
    assert_eq!(
        in_readme.difference(&at_metrics).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "README has them, /metrics does not"
    );
    assert_eq!(
        at_metrics.difference(&in_readme).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "/metrics has them, README does not"
    );
    for (name, labels) in &exported {
        assert_eq!(&documented[name], labels, "{name}: README on the left, /metrics on the right");
    }
}

/// The faults that `check` reports for a file with this text.
fn faults(toml: &str) -> String {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.toml", lab::unique("keys")));
    fs::write(&file, toml).unwrap();
    let output = Command::new(BINARY).env_clear().args(["check", "--config"]).arg(&file).output().unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(2), "{toml}");
    String::from_utf8(output.stderr).unwrap()
}

/// A key that no section has. The error about it lists the section's keys.
const UNKNOWN: &str = "no-such-key";

/// Adds the keys of the section at `path` and of the sections within it, in README's form: `queue.url`, `[[channel]] name`.
fn add_keys(path: &[&str], is_array: bool, found: &mut BTreeSet<String>) {
    let header = match (path, is_array) {
        ([], _) => String::new(),
        (path, true) => format!("[[{}]]\n", path.join(".")),
        (path, false) => format!("[{}]\n", path.join(".")),
    };
    let said = faults(&format!("{header}{UNKNOWN} = 1\n"));
    let known = said.lines().find_map(|line| line.split_once(&format!("{UNKNOWN}: is not a key; there are: ")));
    let (_, keys) = known.unwrap_or_else(|| panic!("{header}: {said}"));
    for key in keys.split(", ") {
        let inner: Vec<&str> = path.iter().copied().chain([key]).collect();
        let place = inner.join(".");
        let said = faults(&format!("[{place}]\n{UNKNOWN} = 1\n"));
        if !is_array && said.contains(&format!("{place}.{UNKNOWN}: is not a key")) {
            add_keys(&inner, false, found);
        } else if !is_array && said.contains(&format!("it must be an array of tables, [[{key}]]")) {
            add_keys(&inner, true, found);
        } else {
            found.insert(if is_array { format!("[[{}]] {key}", path.join(".")) } else { place });
        }
    }
}

#[test]
fn readme_has_every_key_and_no_other() {
    let table = table(&read("README.md"), "| variable | file key |");
    let documented: BTreeSet<String> = table.iter().flat_map(|row| quoted(&row[1])).map(str::to_owned).collect();
    let mut parsed = BTreeSet::new();
    add_keys(&[], false, &mut parsed);
    assert!(parsed.contains("queue.url") && parsed.contains("[[channel]] name"), "{parsed:?}");
    assert_eq!(
        documented.difference(&parsed).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "README has them, the program does not"
    );
    assert_eq!(
        parsed.difference(&documented).collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "the program has them, README does not"
    );
}

/// The source of the program, with each string literal on one line.
fn source() -> String {
    fn add(folder: &Path, text: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                add(&path, text);
            } else {
                text.push_str(&read(path));
            }
        }
    }
    let mut text = String::new();
    add(&root().join("src"), &mut text);
    text.split("\\\n").map(str::trim_start).collect()
}

/// The runbook quotes log lines, and has commands that search the log for some. The program must write these lines.
#[test]
fn the_program_writes_the_log_lines_that_the_runbook_quotes() {
    let document = read("docs/operations.md");
    let runbook = document.split_once("\n### Ecs").unwrap().1.split_once("\n## Sizing").unwrap().0;
    let source = source();
    let (mut prose, mut searched, mut is_code) = (String::new(), Vec::new(), false);
    for line in runbook.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose.push_str(line.trim_start());
            prose.push(' ');
        } else if let Some((_, text)) = line.split_once("| grep ") {
            searched.push(text.trim_start_matches("-i ").trim_matches('\'').to_owned());
        }
    }
    // A search for a field of a line is not a search for a message.
    searched.retain(|text| !text.contains('"'));
    assert!(searched.len() > 3, "{searched:?}");
    // A line about a channel is in the source as "Slack {error}", so the quote is searched without "Slack".
    let quoted = prose.split('"').skip(1).step_by(2).map(|text| text.trim_start_matches("Slack ").to_owned());
    let quoted: Vec<String> = quoted.map(|text| text.trim_matches(['…', ' ']).to_owned()).collect();
    assert!(quoted.iter().any(|text| text == "heartbeat withheld"), "{quoted:?}");
    for text in quoted.iter().chain(&searched) {
        assert!(source.contains(text.as_str()), "no line of the log says {text:?}");
    }
}

/// The variables and their keys, as they stand side by side in the code that reads the configuration.
fn variables_in_code() -> BTreeSet<(String, String)> {
    let folder = root().join("src/config");
    let mut texts = vec![read("src/config.rs")];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.ends_with("tests.rs") && !path.ends_with("properties.rs") {
            texts.push(read(path));
        }
    }
    let is_key = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    let is_variable = |text: &str| text.len() > 3 && text.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    let mut found = BTreeSet::new();
    for text in texts {
        let literals: Vec<&str> = text.split('"').collect();
        for three in literals.windows(3) {
            if is_key(three[0]) && three[1].trim() == "," && is_variable(three[2]) {
                found.insert((three[2].to_owned(), three[0].to_owned()));
            }
        }
    }
    found
}

#[test]
fn readme_has_every_variable_beside_its_key() {
    let in_code = variables_in_code();
    assert!(in_code.contains(&("QUEUE_URL".into(), "url".into())), "{in_code:?}");
    let in_readme: BTreeSet<(String, String)> = table(&read("README.md"), "| variable | file key |")
        .iter()
        .filter_map(|row| Some((quoted(&row[0]).first()?.to_string(), quoted(&row[1]).first()?.to_string())))
        .map(|(variable, key)| (variable, key.rsplit(['.', ' ']).next().unwrap().to_owned()))
        .collect();
    assert_eq!(in_readme, in_code, "README on the left, the program on the right");
}

#[test]
fn every_snapshot_and_every_recorded_answer_belongs_to_a_test() {
    let names = |folder: &str, extension: &str| -> BTreeSet<String> {
        let paths = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let wanted = paths.filter(|path| extension.is_empty() || path.extension().is_some_and(|it| it == extension));
        wanted.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect()
    };
    assert_eq!(
        names("tests/fixtures", "json"),
        names("tests/it/snapshots", "snap"),
        "an event on the left, its snapshot on the right"
    );
    let tests: String = ["diagnosis.rs", "recorded.rs", "commands.rs", "incidents/stories.rs"]
        .iter()
        .map(|file| read(Path::new("tests/it").join(file)))
        .chain([read("tests/lab/src/bin/demo/main.rs"), read("src/diagnosis/tests.rs")])
        .collect();
    for name in names("tests/answers", "") {
        assert!(tests.contains(&format!("\"{name}\"")), "no test uses tests/answers/{name}");
    }
}

#[test]
fn no_document_counts_what_the_next_change_adds_to() {
    const NUMBERS: [&str; 28] = [
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "thirteen",
        "fourteen",
        "fifteen",
        "sixteen",
        "seventeen",
        "eighteen",
        "nineteen",
        "twenty",
        "thirty",
        "forty",
        "fifty",
        "sixty",
        "seventy",
        "eighty",
        "ninety",
        "a hundred",
        "dozens of",
        "dozen",
    ];
    const GROWING: [&str; 8] =
        ["causes", "categories", "metrics", "fixtures", "keys", "variables", "panels", "commands"];
    let documents =
        ["README.md", "docs/operations.md", "docs/causes.md", "dashboards/README.md", "src/lib.rs", "src/metrics.rs"];
    for document in documents {
        let text = read(document).to_lowercase();
        let words: Vec<&str> =
            text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric())).collect();
        for pair in words.windows(2) {
            let is_number =
                NUMBERS.contains(&pair[0]) || (!pair[0].is_empty() && pair[0].chars().all(|c| c.is_ascii_digit()));
            assert!(
                !is_number || !GROWING.contains(&pair[1]),
                "{document} says \"{} {}\"; that changes",
                pair[0],
                pair[1]
            );
        }
    }
}

/// Adds the documents of the repository: every `*.md` file outside of hidden folders and of folders that a command makes.
fn documents(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !["target", "dist"].contains(&name.as_str()) {
            documents(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// The lines of a document that are not in a block of code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_fence && !is_code
    })
}

/// The anchors that GitHub gives to a document's headings.
fn anchors(document: &Path) -> BTreeSet<String> {
    let text = read(document);
    let headings = prose(&text).filter(|line| line.starts_with('#'));
    let mut found = BTreeSet::new();
    for heading in headings {
        let slug: String = heading
            .trim_start_matches('#')
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let same = (1..).map(|number| format!("{slug}-{number}"));
        let anchor = std::iter::once(slug.clone()).chain(same).find(|anchor| !found.contains(anchor));
        found.extend(anchor);
    }
    found
}

/// Why a link of this document is broken.
fn fault_of_link(document: &Path, link: &str) -> Option<String> {
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { document.to_owned() } else { document.parent().unwrap().join(path) };
    if !target.exists() {
        return Some("there is no such file".to_owned());
    }
    let is_found =
        anchor.is_empty() || target.extension().is_none_or(|it| it != "md") || anchors(&target).contains(anchor);
    (!is_found).then(|| format!("{} has no such heading", target.display()))
}

#[test]
fn no_link_between_documents_is_broken() {
    let mut all = Vec::new();
    documents(root(), &mut all);
    assert!(all.contains(&root().join("docs/operations.md")), "{all:?}");
    let (mut faults, mut followed) = (Vec::new(), 0);
    for document in &all {
        let text = read(document);
        let links = prose(&text).flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            followed += 1;
            if let Some(fault) = fault_of_link(document, link) {
                faults.push(format!("{}: {link}: {fault}", document.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(followed > 100, "only {followed} links were found");
    let operations = root().join("docs/operations.md");
    assert!(fault_of_link(&operations, "#no-such-heading").is_some());
    assert!(fault_of_link(&operations, "no-such-file.md").is_some());
}

#[test]
fn every_alarm_of_the_terraform_module_names_a_section_of_the_runbook() {
    let sections = anchors(&root().join("docs/operations.md"));
    // Each alarm is an object with a description. The object's name, or its `runbook`, is in the alarm's link to the runbook.
    let terraform = read("infra/terraform/modules/messaging/alarms.tf");
    let (mut object, mut names) = ("", BTreeSet::new());
    for line in terraform.lines().map(str::trim) {
        // A loop makes several alarms with different names, such as `"silent-rule-${rule}"`. They share a section.
        object = match line.split_once(" : \"") {
            Some((_, name)) => name.split("-$").next().unwrap_or(name),
            None => line.strip_suffix(" = {").unwrap_or(object),
        };
        if line.starts_with("description = \"") {
            names.insert(object);
        }
    }
    assert!(names.contains("not-polling") && names.contains("events-lost"), "{names:?}");
    for name in names {
        let anchor = format!("ecs-slack-alerts-{name}");
        assert!(sections.contains(&anchor), "docs/operations.md has no section #{anchor}");
    }
}
