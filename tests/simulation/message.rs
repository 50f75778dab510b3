//! A naive and strict reader of what the proxy writes, apart from the library.

/// A head, split at its CRLFs and colons.
pub struct Head {
    pub line: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

impl Head {
    /// Of a whole head with its empty line.
    pub fn of(bytes: &[u8]) -> Result<Head, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.trim_end_matches("\r\n").split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        };
        let fields = lines.map(field).collect::<Result<_, String>>()?;
        Ok(Head { line, fields })
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    pub fn says(&self, name: &str, word: &str) -> bool {
        self.get(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    }

    /// How its body is framed; `otherwise` without a word.
    pub fn frame(&self, otherwise: Frame) -> Result<Frame, String> {
        match (self.get("transfer-encoding"), self.get("content-length")) {
            (None, None) => Ok(otherwise),
            (Some("chunked"), None) => Ok(Frame::Chunked),
            (None, Some(length)) => length.parse().map(Frame::Length).map_err(|_| format!("length {length:?}")),
            both => Err(format!("framing {both:?}")),
        }
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    Bare,
    Length(u64),
    Chunked,
    UntilClose,
}

/// The end of the head in `bytes`, if it is there.
pub fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// A body that is being read.
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
    /// A line that is not whole yet.
    line: Vec<u8>,
    pub content: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Size,
    Data(u64),
    DataEnd,
    Trailer,
}

impl Body {
    pub fn new(frame: Frame) -> Body {
        let state = match frame {
            Frame::Bare | Frame::Length(0) => State::Done,
            Frame::Length(n) => State::Length(n),
            Frame::Chunked => State::Size,
            Frame::UntilClose => State::UntilClose,
        };
        Body { state, line: Vec::new(), content: 0 }
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub fn is_until_close(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Reads on; returns how many bytes belong to it. `content` gets each piece and its place.
    pub fn read(&mut self, bytes: &[u8], mut content: impl FnMut(u64, &[u8])) -> Result<usize, String> {
        let mut at = 0;
        while at < bytes.len() && !self.is_done() {
            let rest = &bytes[at..];
            match self.state {
                State::Done => {}
                State::Length(left) | State::Data(left) => {
                    let n = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    content(self.content, &rest[..n]);
                    self.content += n as u64;
                    at += n;
                    self.state = match (self.state, left - n as u64) {
                        (State::Length(_), 0) => State::Done,
                        (State::Length(_), left) => State::Length(left),
                        (_, 0) => State::DataEnd,
                        (_, left) => State::Data(left),
                    };
                }
                State::UntilClose => {
                    content(self.content, rest);
                    self.content += rest.len() as u64;
                    at = bytes.len();
                }
                State::Size | State::DataEnd | State::Trailer => {
                    self.line.push(bytes[at]);
                    at += 1;
                    if self.line.ends_with(b"\n") {
                        self.end_of_line()?;
                    }
                }
            }
        }
        Ok(at)
    }

    fn end_of_line(&mut self) -> Result<(), String> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let text = line.strip_suffix("\r\n").ok_or_else(|| format!("a line ends in LF: {line:?}"))?;
        self.state = match self.state {
            State::Size => match u64::from_str_radix(text, 16).map_err(|_| format!("chunk size {text:?}"))? {
                0 => State::Trailer,
                n => State::Data(n),
            },
            State::DataEnd if text.is_empty() => State::Size,
            State::DataEnd => return Err(format!("chunk end {text:?}")),
            _ if text.is_empty() => State::Done,
            other => other,
        };
        Ok(())
    }
}
