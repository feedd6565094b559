//! What somebody asks of every file, as yes or no.

use clap::ValueEnum;
use sora_provenance::Verdict;

use crate::clip::Judged;

/// What `--require` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Requirement {
    /// Signed by a signer of --anchors, and unchanged since.
    Own,
    /// Known to be generated: a manifest that fits says so, or a mark is found.
    Generated,
    /// A manifest that fits the clip, whoever signed it.
    Credential,
    /// Nothing: only files that cannot be judged count.
    None,
}

/// IPTC digital source types of what models make.
const GENERATED: [&str; 2] = ["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"];

impl Requirement {
    /// Whether a clip is what is asked for.
    pub fn is_met(self, judged: &Judged) -> bool {
        let verdict = judged.judgement.verdict;
        let fits = matches!(verdict, Verdict::Authentic | Verdict::AuthenticOther | Verdict::ValidUntrusted);
        match self {
            Self::None => true,
            Self::Own => verdict == Verdict::Authentic,
            Self::Credential => fits,
            Self::Generated => {
                let sources = judged.manifest.manifest().map(|manifest| &manifest.digital_source_types);
                let says = sources
                    .into_iter()
                    .flatten()
                    .any(|source| source.rsplit('/').next().is_some_and(|kind| GENERATED.contains(&kind)));
                let marked = matches!(&judged.marks, Some(Ok(checked)) if checked.found() || !checked.verdict.marks.is_empty());
                (fits && says) || marked || verdict == Verdict::Recovered
            }
        }
    }
}
