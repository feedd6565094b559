//! Key names of the original Wan checkpoints, translated to those of diffusers.
//!
//! Facts from the original `wan/modules/model.py` and diffusers'
//! `scripts/convert_wan_to_diffusers.py`. One trap: the affine norm before cross-attention is
//! `norm3` there and `norm2` here.

/// Wrappers that trainers and user interfaces put around the network.
const PREFIXES: [&str; 3] = ["model.", "diffusion_model.", "module."];
/// Put between any two levels by sharded training.
const FSDP: &str = "_fsdp_wrapped_module.";

/// The prefixes outside the blocks: original, diffusers.
const TOP: [(&str, &str); 13] = [
    ("patch_embedding.", "patch_embedding."),
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("img_emb.proj.0.", "condition_embedder.image_embedder.norm1."),
    ("img_emb.proj.1.", "condition_embedder.image_embedder.ff.net.0.proj."),
    ("img_emb.proj.3.", "condition_embedder.image_embedder.ff.net.2."),
    ("img_emb.proj.4.", "condition_embedder.image_embedder.norm2."),
    ("img_emb.emb_pos", "condition_embedder.image_embedder.pos_embed"),
    ("head.head.", "proj_out."),
    ("head.modulation", "scale_shift_table"),
];

/// The prefixes inside a block: original, diffusers.
const BLOCK: [(&str, &str); 6] = [
    ("self_attn.", "attn1."),
    ("cross_attn.", "attn2."),
    ("norm3.", "norm2."),
    ("ffn.0.", "ffn.net.0.proj."),
    ("ffn.2.", "ffn.net.2."),
    ("modulation", "scale_shift_table"),
];

/// The prefixes inside an attention: original, diffusers.
const ATTENTION: [(&str, &str); 9] = [
    ("q.", "to_q."),
    ("k.", "to_k."),
    ("v.", "to_v."),
    ("o.", "to_out.0."),
    ("norm_q.", "norm_q."),
    ("norm_k.", "norm_k."),
    ("k_img.", "add_k_proj."),
    ("v_img.", "add_v_proj."),
    ("norm_k_img.", "norm_added_k."),
];

/// The diffusers name of a transformer key of an original Wan checkpoint.
///
/// Wrapper prefixes (`model.`, `model.diffusion_model.`, `_fsdp_wrapped_module.`) are taken off. A
/// name that is diffusers' already comes back without them; `None` for a name of neither kind.
///
/// ```
/// use sora_model::keys::original_to_diffusers;
/// let name = original_to_diffusers("model.blocks.3.self_attn.o.weight");
/// assert_eq!(name.as_deref(), Some("blocks.3.attn1.to_out.0.weight"));
/// ```
pub fn original_to_diffusers(name: &str) -> Option<String> {
    let unwrapped = name.replace(FSDP, "");
    let mut name = unwrapped.as_str();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        name = rest;
    }
    if let Some(rest) = name.strip_prefix("blocks.") {
        let (number, rest) = rest.split_once('.')?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        return block(rest).map(|rest| format!("blocks.{number}.{rest}"));
    }
    if ["condition_embedder.", "proj_out.", "scale_shift_table"].iter().any(|known| name.starts_with(known)) {
        return Some(name.to_owned());
    }
    replace_prefix(name, &TOP)
}

fn block(name: &str) -> Option<String> {
    for (original, diffusers) in [("self_attn.", "attn1."), ("cross_attn.", "attn2.")] {
        if let Some(rest) = name.strip_prefix(original) {
            return Some(format!("{diffusers}{}", replace_prefix(rest, &ATTENTION)?));
        }
    }
    if ["attn1.", "attn2.", "norm2.", "ffn.net.", "scale_shift_table"]
        .iter()
        .any(|known| name.starts_with(known))
    {
        return Some(name.to_owned());
    }
    replace_prefix(name, &BLOCK)
}

fn replace_prefix(name: &str, table: &[(&str, &str)]) -> Option<String> {
    table.iter().find_map(|(original, diffusers)| {
        let rest = name.strip_prefix(original)?;
        Some(format!("{diffusers}{rest}"))
    })
}

#[cfg(test)]
mod tests {
    use super::original_to_diffusers;

    #[test]
    fn original_names_become_diffusers_names() {
        for (original, diffusers) in [
            ("patch_embedding.weight", "patch_embedding.weight"),
            ("time_embedding.2.bias", "condition_embedder.time_embedder.linear_2.bias"),
            ("time_projection.1.weight", "condition_embedder.time_proj.weight"),
            ("text_embedding.0.weight", "condition_embedder.text_embedder.linear_1.weight"),
            ("blocks.0.modulation", "blocks.0.scale_shift_table"),
            ("blocks.11.norm3.weight", "blocks.11.norm2.weight"),
            ("blocks.2.cross_attn.norm_k.weight", "blocks.2.attn2.norm_k.weight"),
            ("blocks.2.cross_attn.k_img.bias", "blocks.2.attn2.add_k_proj.bias"),
            ("blocks.2.cross_attn.norm_k_img.weight", "blocks.2.attn2.norm_added_k.weight"),
            ("blocks.29.ffn.0.weight", "blocks.29.ffn.net.0.proj.weight"),
            ("blocks.29.ffn.2.bias", "blocks.29.ffn.net.2.bias"),
            ("head.head.weight", "proj_out.weight"),
            ("head.modulation", "scale_shift_table"),
        ] {
            for prefix in ["", "model.", "model.diffusion_model.", "model._fsdp_wrapped_module."] {
                let wrapped = format!("{prefix}{original}");
                assert_eq!(original_to_diffusers(&wrapped).as_deref(), Some(diffusers), "{wrapped}");
            }
        }
    }

    #[test]
    fn diffusers_names_stay() {
        for name in [
            "condition_embedder.time_proj.weight",
            "blocks.0.attn1.to_out.0.weight",
            "blocks.0.norm2.bias",
            "blocks.0.ffn.net.0.proj.weight",
            "blocks.0.scale_shift_table",
            "scale_shift_table",
            "proj_out.bias",
        ] {
            assert_eq!(original_to_diffusers(name).as_deref(), Some(name));
        }
    }

    #[test]
    fn names_of_other_networks_are_not_guessed() {
        for name in ["", "encoder.conv1.weight", "blocks", "blocks.x.modulation", "blocks..norm3.weight"] {
            assert_eq!(original_to_diffusers(name), None, "{name}");
        }
    }
}
