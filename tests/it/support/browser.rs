//! A browser without a window, spoken to over pipes in the DevTools protocol.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use base64::Engine as _;
use serde_json::{Value, json};

/// Reads commands from its third descriptor, and writes to its fourth.
const BEGIN: &str = r#"exec chromium "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

const FLAGS: [&str; 11] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--allow-file-access-from-files",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
];

/// A browser with a profile of its own.
pub(crate) struct Browser {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    last: u64,
    _profile: tempfile::TempDir,
}

/// A page that is open.
pub(crate) struct Page<'b> {
    browser: &'b mut Browser,
    session: String,
    events: Vec<Value>,
}

/// The rules of accessibility, as `scripts/test.sh` installs them.
pub(crate) fn axe() -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../browser/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}: run scripts/test.sh, or npm install --prefix target/browser axe-core",
            path.display()
        )
    })
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        let mut command = Command::new("sh");
        command.args(["-c", BEGIN, "sh"]).args(FLAGS).arg(data).env("HOME", profile.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (commands, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, commands, answers: BufReader::new(answers), last: 0, _profile: profile }
    }

    #[track_caller]
    fn read(&mut self) -> Value {
        let mut message = Vec::new();
        let count = self.answers.read_until(0, &mut message).unwrap();
        assert!(count > 0, "the browser has ended: is chromium installed? (scripts/test.sh installs it)");
        serde_json::from_slice(message.strip_suffix(&[0]).unwrap_or(&message)).unwrap()
    }

    /// Asks, and hands what happens until the answer comes to `heard`.
    #[track_caller]
    fn ask(&mut self, session: Option<&str>, method: &str, params: &Value, heard: &mut Vec<Value>) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.read();
            if answer["id"] == json!(self.last) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            heard.push(answer);
        }
    }

    /// Opens a file in a window that is so wide, in light or dark.
    pub(crate) fn open(&mut self, path: &Path, width: u32, dark: bool) -> Page<'_> {
        let mut events = Vec::new();
        let target = self.ask(None, "Target.createTarget", &json!({"url": "about:blank"}), &mut events);
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.ask(None, "Target.attachToTarget", &attach, &mut events);
        let session = session["sessionId"].as_str().unwrap().to_owned();
        let mut page = Page { browser: self, session, events: Vec::new() };
        for domain in ["Page", "Network", "Runtime", "Log"] {
            page.ask(&format!("{domain}.enable"), &json!({}));
        }
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        page.ask("Emulation.setDeviceMetricsOverride", &size);
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        page.ask("Emulation.setEmulatedMedia", &media);
        page.ask("Page.navigate", &json!({"url": format!("file://{}", path.display())}));
        while !page.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = page.browser.read();
            page.events.push(event);
        }
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page<'_> {
    #[track_caller]
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.browser.ask(Some(&self.session), method, params, &mut self.events)
    }

    /// What an expression comes to.
    #[track_caller]
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", &params);
        assert!(answer["exceptionDetails"].is_null(), "{}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// Errors and warnings of the console, and addresses that were asked for beside the page itself.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let of_console = |event: &Value| {
            matches!(
                event["method"].as_str(),
                Some("Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded")
            )
        };
        let asks = |event: &Value| {
            let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
            let is_page = event["params"]["type"] == "Document";
            event["method"] == "Network.requestWillBeSent" && !is_page && !url.starts_with("data:")
        };
        let all = self.events.iter().filter(|event| of_console(event) || asks(event));
        all.map(ToString::to_string).collect()
    }

    /// What the rules of accessibility find wrong.
    #[track_caller]
    pub(crate) fn violations(&mut self, axe: &str) -> Vec<String> {
        self.evaluate(&format!("{axe}; true"));
        let found = self.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(it => \
             it.id + ': ' + it.help + ' ' + it.nodes.slice(0, 3).map(node => node.html + ' ' + \
             node.any.map(check => check.message).join(' ')).join(' | ')))",
        );
        found.as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned()).collect()
    }

    /// Writes a picture of all of it.
    pub(crate) fn picture(&mut self, path: &Path) {
        let shot = self.ask("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().unwrap());
        std::fs::write(path, bytes.unwrap()).unwrap();
    }
}
