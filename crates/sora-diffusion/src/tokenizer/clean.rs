use super::{fix_text, html};

/// Cleans a prompt as diffusers' `prompt_clean` does (`pipelines/wan/pipeline_wan.py`).
///
/// In this order: ftfy's repairs (as far as `fix_text` has them), HTML entities decoded twice, all runs
/// of white space to one space, none at the ends. Letters keep their case.
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
