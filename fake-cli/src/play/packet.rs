//! Reports that are put together without allocating, so that a signal handler may send them.

/// A report as JSON in a fixed buffer.
pub(super) struct Packet {
    bytes: [u8; 160],
    length: usize,
}

impl Packet {
    /// [`Report::Signal`](crate::control::Report::Signal).
    pub(super) fn signal(signal: i32, sender: i32, at_ns: u64) -> Self {
        let mut packet = Self::empty();
        packet.text(br#"{"signal":{"signal":"#);
        packet.number(signal.into());
        packet.text(br#","sender":"#);
        packet.number(sender.into());
        packet.at(at_ns);
        packet
    }

    /// [`Report::Exiting`](crate::control::Report::Exiting).
    pub(super) fn exiting(code: i32, at_ns: u64) -> Self {
        let mut packet = Self::empty();
        packet.text(br#"{"exiting":{"code":"#);
        packet.number(code.into());
        packet.at(at_ns);
        packet
    }

    /// The packet's bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    const fn empty() -> Self {
        Self { bytes: [0; 160], length: 0 }
    }

    fn at(&mut self, at_ns: u64) {
        self.text(br#","at_ns":"#);
        self.number(at_ns.into());
        self.text(b"}}");
    }

    fn text(&mut self, text: &[u8]) {
        self.bytes[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    fn number(&mut self, number: i128) {
        let mut digits = [0; 40];
        let mut first = digits.len();
        let mut rest = number.unsigned_abs();
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            first -= 1;
            digits[first] = b'-';
        }
        self.text(&digits[first..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Report;

    #[test]
    fn packets_are_the_reports_that_serde_would_write() {
        for number in [0, 1, -11, 64, i32::MAX, i32::MIN] {
            for at_ns in [0, 9, 10, u64::MAX] {
                let signal = Report::Signal { signal: number, sender: number, at_ns };
                assert_eq!(
                    Packet::signal(number, number, at_ns).bytes(),
                    serde_json::to_vec(&signal).unwrap()
                );
                let exiting = Report::Exiting { code: number, at_ns };
                assert_eq!(Packet::exiting(number, at_ns).bytes(), serde_json::to_vec(&exiting).unwrap());
            }
        }
    }
}
