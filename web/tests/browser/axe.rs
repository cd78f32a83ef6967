//! axe-core on the page that the browser shows. It is put in by the driver, past the page's own content security policy, which
//! stays as strict as it is.

use serde_json::{Value, json};

use crate::tab::Tab;

const AXE: &str = include_str!("axe/axe.min.js");

/// WCAG 2.2 to level AA, and what axe holds to be good practice. `target-size` is new in 2.2, and off unless it is asked for.
const RUN: &str = "
    const done = arguments[0];
    const tags = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    axe.run(document, {
        runOnly: { type: 'tag', values: tags },
        rules: { 'target-size': { enabled: true } },
        resultTypes: ['violations'],
        iframes: false,
    }).then((found) => done({
        rules: found.violations.map((rule) => ({
            id: rule.id, help: rule.help,
            nodes: rule.nodes.map((node) => node.html + ' | ' + node.failureSummary),
        })),
        passed: found.passes.length,
    }), (error) => done({ error: String(error) }));";

/// What axe finds; a line each.
pub(crate) async fn faults(tab: &Tab) -> Vec<String> {
    if tab.ask("return typeof axe === 'undefined';").await == json!(true) {
        tab.ask(AXE).await;
    }
    let found = tab.ask_async(RUN).await;
    assert!(found["passed"].as_u64() > Some(5), "axe did not look: {found}");
    let rules = found["rules"].as_array().unwrap();
    rules.iter().map(line).collect()
}

fn line(rule: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('\n', " ");
    let nodes: Vec<_> = rule["nodes"].as_array().unwrap().iter().take(4).map(text).collect();
    format!("axe {} ({}): {}", text(&rule["id"]), text(&rule["help"]), nodes.join(" || "))
}
