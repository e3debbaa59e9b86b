//! HTTP through `curl`: a client that nobody here wrote.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Longer than any answer may take.
const LIMIT_S: &str = "30";

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    arguments: Vec<String>,
    body: Option<Vec<u8>>,
}

/// What came back; status 0 where there was no answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Value,
    pub body: Vec<u8>,
    /// Protocol as curl names it: `1.1`, `2`.
    pub version: String,
    pub error: String,
}

impl Call {
    #[must_use]
    pub fn new(method: &str, url: &str) -> Self {
        let write = "%{stderr}\n%{http_version}\n%{response_code}\n%{header_json}";
        let fixed = ["-sS", "--globoff", "--path-as-is", "--max-time", LIMIT_S, "-H", "Expect:", "-w", write];
        let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
        arguments.extend(["-X".to_owned(), method.to_owned(), url.to_owned()]);
        if method == "HEAD" {
            arguments.push("--head".to_owned());
        }
        Self { arguments, body: None }
    }

    /// An option of curl, such as `--http2-prior-knowledge`.
    #[must_use]
    pub fn option(mut self, words: &[&str]) -> Self {
        self.arguments.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }

    #[must_use]
    pub fn header(self, name: &str, value: &str) -> Self {
        // curl leaves a header with an empty value out unless it ends in `;`.
        let line = if value.is_empty() { format!("{name};") } else { format!("{name}: {value}") };
        self.option(&["-H", &line])
    }

    #[must_use]
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Some(bytes.into());
        self
    }

    /// # Panics
    /// When curl is not installed.
    #[must_use]
    pub fn send(&self) -> Answer {
        let mut command = Command::new("curl");
        command.args(&self.arguments).env_remove("http_proxy").env_remove("https_proxy");
        if self.body.is_some() {
            command.args(["--data-binary", "@-"]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("curl: {error}; install it with scripts/install.sh tools"));
        let (mut stdin, body) = (child.stdin.take().unwrap(), self.body.clone());
        let writer = std::thread::spawn(move || {
            // A server may answer before it has read everything.
            let _ = stdin.write_all(&body.unwrap_or_default());
        });
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        answer(output.stdout, &String::from_utf8_lossy(&output.stderr))
    }

    /// # Panics
    /// When the answer has another status.
    pub fn expect(&self, status: u16) -> Answer {
        let answer = self.send();
        assert_eq!(answer.status, status, "{:?}\n{}\n{}", self.arguments, answer.text(), answer.error);
        answer
    }
}

/// Splits what `-w` wrote from what curl complained about before and after.
fn answer(body: Vec<u8>, stderr: &str) -> Answer {
    let version_at = |line: &&str| ["0", "1", "1.1", "2", "3"].contains(line);
    let lines: Vec<&str> = stderr.lines().collect();
    let at = lines.iter().position(version_at).unwrap_or_else(|| panic!("curl said: {stderr}"));
    let status = lines.get(at + 1).and_then(|line| line.parse().ok()).unwrap_or(0);
    let json = lines[at + 2..].join("\n");
    let mut values = serde_json::Deserializer::from_str(&json).into_iter::<Value>();
    let headers = values.next().and_then(Result::ok).unwrap_or_default();
    let error = lines[..at].join("\n") + &json[values.byte_offset()..];
    Answer { status, headers, body, version: lines[at].to_owned(), error }
}

impl Answer {
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// First value of a header, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers[name.to_ascii_lowercase()][0].as_str()
    }

    /// # Panics
    /// When the body is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}
