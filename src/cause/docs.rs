//! `docs/causes.md`, made from the catalogue: `UPDATE_DOCS=1 cargo test --lib cause::docs` writes it.

use super::catalogue::{RULES, Rule};
use super::{Category, cleaned};
use crate::text;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/causes.md");

fn page() -> String {
    let mut page = String::from(
        "# Causes\n\n\
         The causes that an alert may give for a task that stopped or did not start. `render` prints the name. An alert shows \
         the title and what to do, unless ECS's text leads to more precise advice. This page is generated from \
         `src/cause/catalogue.rs`:\n\
         `UPDATE_DOCS=1 cargo test --lib cause::docs`.\n\n\
         A sentence that begins with `EC2:` or `Fargate:` applies only to tasks there. A sentence that begins with `Service:` \
         applies only to a service's tasks, one with `Stand-alone:` only to other tasks. If a cause may heal by itself, the next \
         attempt may succeed.\n\n\
         The quotes are examples of ECS's texts. Advice below a quote is for texts such as that quote.\n",
    );
    for category in Category::ALL {
        let heals = if category.may_heal() { " It may heal by itself." } else { "" };
        page += &format!("\n## {}: `{}`\n\n{}{heals}\n\n", category.title(), category.as_str(), category.meaning());
        page += &format!("What to do: {}\n", category.advice());
        let of_category = || RULES.iter().filter(|rule| rule.category == *category);
        let quoted = |rule: &Rule| rule.examples.first().map(|example| format!("\n> {}\n", shown(example)));
        page.extend(of_category().find(|rule| !rule.has_advice()).and_then(|rule| quoted(rule)));
        for rule in of_category().filter(|rule| rule.has_advice()) {
            page.extend(quoted(rule));
            page += &format!("\n{}\n", rule.advice());
        }
        if let Some(codes) = exit_codes(*category) {
            page += &format!("\nExit code {codes}.\n");
        }
    }
    page
}

/// The example for a Markdown quote: cut to a readable length, with Markdown's special characters escaped.
fn shown(example: &str) -> String {
    text::line(&cleaned(example), 300)
        .chars()
        .flat_map(|c| [Some('\\').filter(|_| "<>*_`[]|".contains(c)), Some(c)])
        .flatten()
        .collect()
}

const fn exit_codes(category: Category) -> Option<&'static str> {
    Some(match category {
        Category::Completed => "0",
        Category::StartCommand => "126 or 127",
        Category::Sigkill => "137, if nothing says that the container ran out of memory",
        Category::Sigterm => "143",
        Category::Crash => "other than 0, 126, 127, 137 and 143",
        _ => return None,
    })
}

#[test]
fn the_page_about_causes_is_what_the_catalogue_says() {
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(PATH, &page).unwrap();
    }
    let written = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(written == page, "docs/causes.md is out of date: UPDATE_DOCS=1 cargo test --lib cause::docs");
}
