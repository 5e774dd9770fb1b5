//! Counting replies: just enough of the protocol to know where a reply ends,
//! that it is not an error, and that values have the length they should have.

/// What remains of a reply that arrived in part, and the counters.
pub struct Replies {
    /// Complete replies so far.
    pub count: u64,
    expected_len: Option<usize>,
    /// Elements still to come before the reply is complete; 0 between replies.
    open: u64,
    /// Bytes of a bulk string, with its line end, still to come.
    body: usize,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
}

impl Replies {
    pub fn new(expected_len: Option<usize>) -> Replies {
        Replies { count: 0, expected_len, open: 0, body: 0, line: Vec::new() }
    }

    /// Takes bytes as they arrived, cut anywhere. Fails with the server's text
    /// on an error reply, and with ours on a reply that can't be right.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            if self.body > 0 {
                let taken = self.body.min(bytes.len());
                self.body -= taken;
                bytes = &bytes[taken..];
                if self.body == 0 {
                    self.element_ends();
                }
                continue;
            }
            // Every line ends "\r\n" and holds no other "\n".
            let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                return Ok(());
            };
            if self.line.is_empty() {
                self.line_ends(&bytes[..end])?;
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&bytes[..end]);
                self.line_ends(&line)?;
                // Given back for its capacity.
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        Ok(())
    }

    /// `line` ends with its "\r".
    fn line_ends(&mut self, line: &[u8]) -> Result<(), String> {
        let Some((&kind, rest)) = line.strip_suffix(b"\r").and_then(<[u8]>::split_first) else {
            return Err(unexpected(line));
        };
        if self.open == 0 {
            self.open = 1;
        }
        match kind {
            b'+' | b':' => self.element_ends(),
            b'$' if rest == b"-1" => {
                if self.expected_len.is_some() {
                    return Err("a key that was loaded is not there".to_string());
                }
                self.element_ends();
            }
            b'$' => {
                let length = number(rest).ok_or_else(|| unexpected(line))?;
                if self.expected_len.is_some_and(|expected| expected != length) {
                    return Err(format!("a value is {length} bytes long"));
                }
                self.body = length + 2;
            }
            b'*' => {
                self.open += number(rest).ok_or_else(|| unexpected(line))? as u64;
                self.element_ends();
            }
            b'-' => return Err(String::from_utf8_lossy(rest).into_owned()),
            _ => return Err(unexpected(line)),
        }
        Ok(())
    }

    fn element_ends(&mut self) {
        self.open -= 1;
        if self.open == 0 {
            self.count += 1;
        }
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn unexpected(line: &[u8]) -> String {
    format!("not a reply: {:?}", String::from_utf8_lossy(line))
}
