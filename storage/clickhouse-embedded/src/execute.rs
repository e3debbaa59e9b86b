//! One statement, from its text to the end of its answer, on an engine thread.
//!
//! Duty: gather the statement, set the request's settings on a fresh
//! connection, run it the way its outline asks for. Must stay true: an error
//! before the first piece is an error answer, one after it breaks the answer
//! off; data of an insert that did not arrive whole is not committed.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::body::{decoded, exception_of};
use crate::exception::{Exception, code};
use crate::ffi::{Connection, Stream};
use crate::format::{Joining, joining};
use crate::gather::{Gathered, gather};
use crate::parameters::Parameters;
use crate::pool::{Engine, Job, Running};
use crate::reply::Reply;
use crate::statement::{InsertData, Other, Outline};

/// Size of the pieces in which files and bodies are read.
const PIECE_BYTES: usize = 256 << 10;
/// After a failed insert this much of the body is still read, so that the
/// client gets to see the answer instead of a reset connection.
const REST_BYTES_MAX: u64 = 32 << 20;
/// Settings that make an answer more than rows.
const WRAPPING_SETTINGS: [&str; 2] = ["extremes", "output_format_json_array_of_rows"];
const DEFAULT_FORMAT: &str = "TabSeparated";

/// Why a statement ended without a whole answer.
enum End {
    Failed(Exception),
    /// The client is gone; nobody reads an error.
    ClientGone(io::Error),
}

impl From<Exception> for End {
    fn from(exception: Exception) -> Self {
        Self::Failed(exception)
    }
}

fn engine_error(text: String) -> End {
    End::Failed(Exception::from_engine(&text))
}

/// Runs a job and answers it, whatever happens.
pub(crate) fn run(engine: &Engine, job: Job) {
    let Job { request, body, mut reply, running, place } = job;
    let mut parameters = request.parameters.clone();
    let body = decoded(body, &request.content_encoding, parameters.decompress);
    let outcome = body.map_err(End::Failed).and_then(|mut body| {
        let bound = engine.query_bytes_max;
        let gathered = gather(&mut *body, &mut parameters, request.form_boundary.as_deref(), bound)?;
        let mut statement = Statement {
            engine,
            parameters: &parameters,
            read_only: request.read_only_method,
            running: &running,
        };
        statement.run(gathered, &mut *body, &mut reply)
    });
    match outcome {
        Ok(()) => {
            if let Err(error) = reply.finish() {
                tracing::debug!(%error, "client went away at the end of an answer");
            }
        }
        Err(End::Failed(exception)) => {
            tracing::debug!(code = exception.code, query_id = request.query_id, "statement failed");
            reply.fail(&exception);
        }
        Err(End::ClientGone(error)) => {
            tracing::debug!(%error, query_id = request.query_id, "client went away");
            // Whatever was sent is no whole answer.
            reply.fail(&Exception::stalled("the client took nothing for too long"));
        }
    }
    drop(place);
}

struct Statement<'a> {
    engine: &'a Engine,
    parameters: &'a Parameters,
    read_only: bool,
    running: &'a Running,
}

impl Statement<'_> {
    fn run(&mut self, gathered: Gathered, body: &mut dyn Read, reply: &mut Reply) -> Result<(), End> {
        match gathered.outline {
            Outline::Empty => Err(Exception::syntax("Empty query").into()),
            Outline::InsertData(insert) => {
                if self.read_only {
                    return Err(refused_by_method().into());
                }
                if insert.from_file {
                    return Err(Exception::new(
                        code::UNKNOWN_TYPE_OF_QUERY,
                        "UNKNOWN_TYPE_OF_QUERY",
                        "INSERT ... FROM INFILE reads a file of the client; send its data in the request body",
                    )
                    .into());
                }
                let mut connection = self.connection()?;
                self.running.begins(false);
                self.insert(&mut connection, &gathered.text, &insert, gathered.complete, body, reply)
            }
            Outline::Other(other) => {
                let text = utf8(&gathered.text)?;
                check(&other, self.parameters.session)?;
                let mut connection = self.connection()?;
                self.other(&mut connection, text, &other, reply)
            }
        }
    }

    /// A fresh connection with the request's database and settings.
    fn connection(&self) -> Result<Connection, End> {
        let failed = || {
            let text = "the engine gave no connection; its own words are on standard error";
            End::Failed(Exception::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", text))
        };
        let mut connection = self.engine.connect().ok_or_else(failed)?;
        if let Some(database) = &self.parameters.database {
            let quoted = database.replace('\\', "\\\\").replace('`', "\\`");
            connection.query(&format!("USE `{quoted}`"), "Null", &[]).map_err(engine_error)?;
        }
        let mark = ("log_comment".to_owned(), self.running.mark.clone());
        let own = self.engine.settings.iter().chain([&mark]);
        let mut assignments = Vec::new();
        for (name, value) in own.chain(&self.parameters.settings) {
            assignments.push(assignment(name, value)?);
        }
        connection.query(&format!("SET {}", assignments.join(", ")), "Null", &[]).map_err(engine_error)?;
        // Last, because nothing can be set after it. 2 allows settings, as the
        // server sets it for methods that only read.
        let readonly = self.parameters.readonly.as_deref().filter(|value| *value != "0");
        if let Some(level) = readonly.or(self.read_only.then_some("2")) {
            let sql = format!("SET {}", assignment("readonly", level)?);
            connection.query(&sql, "Null", &[]).map_err(engine_error)?;
        }
        Ok(connection)
    }

    fn other(
        &self,
        connection: &mut Connection,
        text: &str,
        other: &Other,
        reply: &mut Reply,
    ) -> Result<(), End> {
        let class = connection.classify(text);
        let reads = class.is_some_and(|class| class.read_only);
        if class.is_some_and(|class| class.statements > 1) && !has_word(text, "PARALLEL") {
            return Err(Exception::syntax("Multi-statements are not allowed").into());
        }
        self.running.begins(reads);
        let asked = self.parameters.default_format.as_deref();
        let format = other.format.as_deref().or(asked).unwrap_or(DEFAULT_FORMAT).to_owned();
        let wrapped = other.more_than_rows
            || self.parameters.settings.iter().any(|(name, _)| WRAPPING_SETTINGS.contains(&name.as_str()));
        let joined = joining(&format);
        if !(reads && other.is_select()) {
            let answer =
                connection.query(text, &format, &self.parameters.substitutions).map_err(engine_error)?;
            reply.start(&format, answer.counters()).map_err(End::ClientGone)?;
            return reply.write(answer.bytes()).map_err(End::ClientGone);
        }
        if wrapped || self.parameters.wait_end_of_query || joined == Joining::Document {
            return self.document(connection, text, other, &format, reply);
        }
        let mut stream =
            connection.stream(text, &format, &self.parameters.substitutions).map_err(engine_error)?;
        send_pieces(&mut stream, joined, &format, reply)
    }

    /// Lets the engine write the answer into a file and sends that: one whole
    /// document, in bounded memory, and every error comes before the first byte.
    fn document(
        &self,
        connection: &mut Connection,
        text: &str,
        other: &Other,
        format: &str,
        reply: &mut Reply,
    ) -> Result<(), End> {
        let file = ResultFile::new(self.engine)?;
        let (before, after) = text.split_at(other.before_format);
        let path = &file.path;
        let sql = format!("{before} INTO OUTFILE '{path}' TRUNCATE COMPRESSION 'none' {after}");
        let answer = connection.query(&sql, format, &self.parameters.substitutions).map_err(|error| {
            // The engine quotes what it was given; the client wrote less.
            engine_error(error.replace(&format!(" INTO OUTFILE '{path}' TRUNCATE COMPRESSION 'none' "), " "))
        })?;
        let mut source = file.open()?;
        drop(file);
        reply.start(format, answer.counters()).map_err(End::ClientGone)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match source.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => reply.write(&piece[..read]).map_err(End::ClientGone)?,
                Err(error) => return Err(file_error(&error).into()),
            }
        }
    }

    fn insert(
        &self,
        connection: &mut Connection,
        text: &[u8],
        insert: &InsertData,
        complete: bool,
        body: &mut dyn Read,
        reply: &mut Reply,
    ) -> Result<(), End> {
        let format = insert
            .format
            .as_deref()
            .or(self.parameters.default_format.as_deref())
            .unwrap_or("Values")
            .to_owned();
        let inline = &text[insert.data_start..];
        if complete
            && format.eq_ignore_ascii_case("Values")
            && insert.settings.is_none()
            && !inline.is_empty()
        {
            // Values may be expressions with parameters, which only this call binds.
            let answer = connection
                .query(utf8(text)?, DEFAULT_FORMAT, &self.parameters.substitutions)
                .map_err(engine_error)?;
            return reply.start(DEFAULT_FORMAT, answer.counters()).map_err(End::ClientGone);
        }
        let mut head = utf8(&text[..insert.head_end])?.to_owned();
        if let Some((start, end)) = insert.settings {
            head.push(' ');
            head.push_str(utf8(&text[start..end])?);
        }
        let mut stream =
            connection.insert(&head, &format, &self.parameters.substitutions).map_err(engine_error)?;
        let mut accepted = inline.is_empty() || stream.append(inline).is_ok();
        let mut piece = vec![0; PIECE_BYTES];
        while accepted {
            match body.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => accepted = stream.append(&piece[..read]).is_ok(),
                // Dropping the stream cancels the insert.
                Err(error) => return Err(exception_of(&error).into()),
            }
        }
        // After a refused piece this call gives the engine's reason.
        let outcome = stream.finish();
        if !accepted {
            let mut rest = body.take(REST_BYTES_MAX);
            if let Err(error) = io::copy(&mut rest, &mut io::sink()) {
                tracing::debug!(%error, "client stopped sending after a failed insert");
            }
        }
        match outcome {
            Ok(counters) if accepted => reply.start(&format, counters).map_err(End::ClientGone),
            Ok(_) => Err(Exception::cut_off("the engine stopped taking data without a reason").into()),
            Err(error) => Err(engine_error(error)),
        }
    }
}

/// Sends the pieces of a select as one answer.
fn send_pieces(stream: &mut Stream<'_>, joined: Joining, format: &str, reply: &mut Reply) -> Result<(), End> {
    let mut header: Option<Vec<u8>> = None;
    while let Some(piece) = stream.next().map_err(engine_error)? {
        let bytes = piece.bytes();
        let rows = match &header {
            None => {
                let length = joined.header_bytes(bytes).ok_or_else(broken_header)?;
                header = Some(bytes[..length].to_vec());
                reply.start(format, piece.counters()).map_err(End::ClientGone)?;
                bytes
            }
            Some(header) => bytes.strip_prefix(header.as_slice()).ok_or_else(broken_header)?,
        };
        reply.write(rows).map_err(End::ClientGone)?;
    }
    if header.is_none() {
        reply.start(format, crate::ffi::Counters::default()).map_err(End::ClientGone)?;
    }
    Ok(())
}

fn broken_header() -> End {
    let text = "the engine's pieces do not begin with the same header; ask with wait_end_of_query=1";
    Exception::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", text).into()
}

fn refused_by_method() -> Exception {
    Exception::read_only(
        "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. \
         You should use method POST for modifying queries",
    )
}

/// What a server refuses before it runs anything.
fn check(other: &Other, session: bool) -> Result<(), Exception> {
    if other.into_outfile {
        return Err(Exception::new(
            code::INTO_OUTFILE_NOT_ALLOWED,
            "INTO_OUTFILE_NOT_ALLOWED",
            "INTO OUTFILE is not allowed over HTTP; the answer is the output",
        ));
    }
    if other.single_word {
        return Err(Exception::syntax(&format!("Syntax error: '{}' is no statement", other.first)));
    }
    if other.insert_select && other.input_function {
        return Err(Exception::not_implemented(
            "INSERT ... SELECT ... FROM input() is not supported by the embedded ClickHouse; insert into a table",
        ));
    }
    if session && matches!(other.first.as_str(), "SET" | "USE") {
        return Err(Exception::not_implemented(
            "sessions are not kept by the embedded ClickHouse; give settings and database as URL parameters",
        ));
    }
    Ok(())
}

fn has_word(text: &str, word: &str) -> bool {
    crate::lexer::Lexer::new(text.as_bytes()).any(|token| token.is_word(text.as_bytes(), word))
}

fn utf8(text: &[u8]) -> Result<&str, Exception> {
    std::str::from_utf8(text).map_err(|_| Exception::syntax("Syntax error: the statement is not UTF-8"))
}

/// `name = 'value'`; the engine turns the text into the setting's type.
fn assignment(name: &str, value: &str) -> Result<String, Exception> {
    let plain = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes()[0].is_ascii_digit();
    if !plain {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let text =
            format!("Setting {shown} is neither a builtin setting nor a parameter of the HTTP interface");
        return Err(Exception::new(code::UNKNOWN_SETTING, "UNKNOWN_SETTING", &text));
    }
    Ok(format!("{name} = '{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
}

fn file_error(error: &io::Error) -> Exception {
    let text = format!("the result file cannot be used: {error}; check the space under the data directory");
    Exception::new(code::LOGICAL_ERROR, "LOGICAL_ERROR", &text)
}

/// A file for one answer, removed when it is dropped; an open handle stays good.
struct ResultFile {
    path: String,
}

impl ResultFile {
    fn new(engine: &Engine) -> Result<Self, Exception> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = engine.results.join(number.to_string());
        let path = path.to_str().filter(|path| !path.contains(['\'', '\\'])).map(str::to_owned);
        path.map(|path| Self { path }).ok_or_else(|| {
            Exception::bad_arguments("the data directory's name must hold no quote and no backslash")
        })
    }

    fn open(&self) -> Result<File, Exception> {
        File::open(&self.path).map_err(|error| file_error(&error))
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove a result file");
            }
            _ => {}
        }
    }
}
