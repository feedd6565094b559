//! Prompts with times, as the `text` pad takes them: a storyboard. No GStreamer here.

use std::time::Duration;

/// More cues than any storyboard has; a stream that goes on for ever must not take memory for ever.
pub(super) const MOST: usize = 100_000;
/// Bytes of one cue that are read.
pub(super) const LONGEST: usize = 16 * 1024;

/// A prompt and when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cue {
    start: Duration,
    end: Option<Duration>,
    prompt: String,
}

/// What has come in on the pad.
#[derive(Clone, Debug, Default)]
pub(super) struct Cues {
    /// By their start, of equal ones the later one behind.
    list: Vec<Cue>,
    /// A cue, a gap or the end has come.
    begun: bool,
    /// No more will come.
    ended: bool,
}

/// What holds at some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Now<'a> {
    /// Nothing has been said yet.
    Nothing,
    /// This prompt.
    Prompt(&'a str),
    /// The storyboard is over.
    Over,
}

impl Cues {
    /// Adds a cue; `false` when there are too many.
    pub(super) fn add(&mut self, start: Duration, end: Option<Duration>, prompt: String) -> bool {
        self.begun = true;
        if self.list.len() >= MOST {
            return false;
        }
        let at = self.list.partition_point(|cue| cue.start <= start);
        self.list.insert(at, Cue { start, end, prompt });
        true
    }

    /// A cue, a gap or the end has come.
    pub(super) fn begin(&mut self) {
        self.begun = true;
    }

    /// No more cues will come.
    pub(super) fn end(&mut self) {
        (self.begun, self.ended) = (true, true);
    }

    /// Whether anything has been said, if only that there is nothing.
    pub(super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// What holds at `time`: the cue that began last, also after its end until the next one begins; where cues
    /// overlap, that is the later one, and behind its end the earlier one if that goes on. After the last end of
    /// all nothing more will come once the stream of cues has ended.
    pub(super) fn at(&self, time: Duration) -> Now<'_> {
        let begun = &self.list[..self.list.partition_point(|cue| cue.start <= time)];
        let holds = |cue: &&Cue| cue.end.is_none_or(|end| time < end);
        if let Some(cue) = begun.iter().rev().find(holds) {
            return Now::Prompt(&cue.prompt);
        }
        if self.ended && !self.list.is_empty() && begun.len() == self.list.len() {
            return Now::Over;
        }
        begun.last().map_or(Now::Nothing, |cue| Now::Prompt(&cue.prompt))
    }
}

/// Text of a subtitle without its markup (Pango's: tags and five entities).
pub(super) fn without_markup(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['<', '&']) {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let entities = [
            ("&amp;", '&'),
            ("&lt;", '<'),
            ("&gt;", '>'),
            ("&quot;", '"'),
            ("&apos;", '\''),
            ("&#39;", '\''),
        ];
        if let Some((entity, character)) = entities.iter().find(|(entity, _)| rest.starts_with(entity)) {
            plain.push(*character);
            rest = &rest[entity.len()..];
        } else if let (true, Some(end)) = (rest.starts_with('<'), rest.find('>')) {
            rest = &rest[end + 1..];
        } else {
            // What is no markup after all.
            plain.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cues(list: &[(u64, u64, &str)]) -> Cues {
        let mut cues = Cues::default();
        for (start, end, prompt) in list {
            let end = Some(Duration::from_secs(*end));
            assert!(cues.add(Duration::from_secs(*start), end, (*prompt).to_owned()));
        }
        cues
    }

    fn at(cues: &Cues, seconds: u64) -> Now<'_> {
        cues.at(Duration::from_secs(seconds))
    }

    #[test]
    fn unsorted_and_overlapping_cues_find_their_times() {
        let cues = cues(&[(10, 20, "b"), (2, 6, "a"), (12, 14, "c"), (30, 31, "d")]);
        for (seconds, prompt) in
            [(2, "a"), (5, "a"), (8, "a"), (10, "b"), (12, "c"), (13, "c"), (15, "b"), (25, "d"), (30, "d")]
        {
            let expected = if seconds == 25 { "c" } else { prompt };
            assert_eq!(at(&cues, seconds), Now::Prompt(expected), "{seconds}");
        }
        assert_eq!(at(&cues, 0), Now::Nothing);
    }

    #[test]
    fn a_storyboard_is_over_after_its_last_end_and_not_before_its_stream_has_ended() {
        let mut cues = cues(&[(0, 5, "a"), (1, 2, "b")]);
        assert_eq!(at(&cues, 9), Now::Prompt("b"));
        cues.end();
        assert_eq!(at(&cues, 4), Now::Prompt("a"));
        assert_eq!(at(&cues, 5), Now::Over);
        let mut empty = Cues::default();
        empty.end();
        assert_eq!(at(&empty, 5), Now::Nothing, "nobody said anything");
    }

    #[test]
    fn markup_is_taken_off_and_what_is_none_stays() {
        for (given, plain) in [
            ("<b>a red</b> ball", "a red ball"),
            ("a ball &amp; a cube", "a ball & a cube"),
            ("1 &lt; 2 <3", "1 < 2 <3"),
            ("a\n  ball", "a ball"),
            ("ü&ä<ö", "ü&ä<ö"),
        ] {
            assert_eq!(without_markup(given), plain);
        }
    }
}
