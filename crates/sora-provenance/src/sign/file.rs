//! Signing a finished file.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, Write as _};
use std::path::Path;

use c2pa::Builder;
use c2pa::assertions::DataHash;
use sha2::Digest as _;

use super::{ClipSigner, FORMAT, add_nameless, builder, failed};
use crate::claim::Nameless;
use crate::inspect::{Inspection, inspect};
use crate::{Claim, ProvenanceError, SigningKeys};

/// What c2pa knows a manifest by that is in no file.
const BARE: &str = "application/c2pa";

/// Signs the file `input` into the file `output`. The output appears when it is whole, and replaces what was
/// there; until then it is a temporary file beside it. The media data is hashed as one piece.
///
/// An input that has a manifest becomes the parent of the output where the claim holds no record, and its
/// manifest is kept within the new one; where the claim says how the clip was made, it is refused.
///
/// # Errors
/// [`ProvenanceError::Container`] for an input that is no whole MP4 file, or that has a manifest and a record;
/// [`ProvenanceError::Stream`] where a file cannot be read or written; [`ProvenanceError::Claim`] and
/// [`ProvenanceError::Sign`] where the manifest cannot be made.
pub fn sign_file(
    input: &Path,
    output: &Path,
    claim: &Claim,
    keys: &SigningKeys,
) -> Result<(), ProvenanceError> {
    let (mut source, mut builder) = open(input, claim, keys)?;
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().prefix(".sora-sign-").suffix(".mp4").tempfile_in(folder).map_err(writing)?;
    builder.sign(&ClipSigner::new(keys), FORMAT, &mut source, file.as_file_mut()).map_err(failed)?;
    file.as_file_mut().flush().map_err(writing)?;
    file.as_file().sync_all().map_err(writing)?;
    like_the_input(input, file.path())?;
    file.persist(output).map_err(|error| writing(error.error))?;
    Ok(())
}

/// Makes the manifest of the file `input`, which stays as it is. Returns what belongs into a `.c2pa` file. Of a file
/// that is no MP4 it binds all bytes (`c2pa.hash.data`, C2PA 2.4 §18.5): containers that cannot hold a manifest have
/// theirs beside them.
///
/// # Errors
/// As [`sign_file`], but that any file that is not empty will do.
pub fn sign_sidecar(input: &Path, claim: &Claim, keys: &SigningKeys) -> Result<Vec<u8>, ProvenanceError> {
    let mut start = [0; 8];
    let mut file = File::open(input).map_err(reading)?;
    let length = file.metadata().map_err(reading)?.len();
    if length == 0 {
        return Err(ProvenanceError::Container("it is empty".into()));
    }
    if file.read_exact(&mut start).is_err() || &start[4..] != b"ftyp" {
        file.rewind().map_err(reading)?;
        return sign_bytes(file, claim, keys);
    }
    let (mut source, mut builder) = open(input, claim, keys)?;
    builder.set_no_embed(true);
    // c2pa writes the asset a second time even where nothing is put into it.
    let mut copy = tempfile::tempfile().map_err(writing)?;
    builder.sign(&ClipSigner::new(keys), FORMAT, &mut source, &mut copy).map_err(failed)
}

/// Makes a manifest that binds all bytes of a file of whatever format.
fn sign_bytes(file: File, claim: &Claim, keys: &SigningKeys) -> Result<Vec<u8>, ProvenanceError> {
    let mut hasher = sha2::Sha256::new();
    let mut source = BufReader::with_capacity(1 << 20, file);
    loop {
        let piece = source.fill_buf().map_err(reading)?;
        if piece.is_empty() {
            break;
        }
        hasher.update(piece);
        let length = piece.len();
        source.consume(length);
    }
    let (mut builder, _, ingredients) = builder(claim, keys)?;
    add_nameless(&mut builder, &ingredients)?;
    let mut hash = DataHash::new("all bytes", "sha256");
    hash.set_hash(hasher.finalize().to_vec());
    let signer = ClipSigner::new(keys);
    builder.data_hashed_placeholder(c2pa::Signer::reserve_size(&signer), BARE).map_err(failed)?;
    builder.sign_data_hashed_embeddable(&signer, &hash, BARE).map_err(failed)
}

/// Opens a file and looks whether it can be signed; prepares its manifest.
fn open(
    input: &Path,
    claim: &Claim,
    keys: &SigningKeys,
) -> Result<(BufReader<File>, Builder), ProvenanceError> {
    let file = File::open(input).map_err(reading)?;
    let mut source = BufReader::new(file);
    let inspection = inspect(&mut source)?;
    check(&inspection, claim)?;
    source.rewind().map_err(reading)?;
    let (mut builder, published, ingredients) = builder(claim, keys)?;
    match (&published.record, ingredients.as_slice()) {
        // What was opened is the file itself.
        (None, [opened]) => add_file(&mut builder, opened, &mut source)?,
        _ => add_nameless(&mut builder, &ingredients)?,
    }
    source.rewind().map_err(reading)?;
    Ok((source, builder))
}

fn check(inspection: &Inspection, claim: &Claim) -> Result<(), ProvenanceError> {
    if !inspection.problems.is_empty() {
        return Err(ProvenanceError::Container(inspection.problems.join("; ")));
    }
    if inspection.signed && claim.record.is_some() {
        return Err(ProvenanceError::Container(
            "it has a C2PA manifest already; a claim without a record keeps that as the parent's".into(),
        ));
    }
    Ok(())
}

fn add_file(
    builder: &mut Builder,
    ingredient: &Nameless,
    source: &mut BufReader<File>,
) -> Result<(), ProvenanceError> {
    builder.add_ingredient_from_stream(ingredient.json.to_string(), FORMAT, source).map_err(failed)?;
    Ok(())
}

/// Temporary files are for their owner only; a clip may be read by those who might read what it was made of.
fn like_the_input(input: &Path, output: &Path) -> Result<(), ProvenanceError> {
    let permissions = std::fs::metadata(input).map_err(reading)?.permissions();
    std::fs::set_permissions(output, permissions).map_err(writing)
}

fn reading(source: std::io::Error) -> ProvenanceError {
    ProvenanceError::Stream { what: "reading the clip to sign", source }
}

fn writing(source: std::io::Error) -> ProvenanceError {
    ProvenanceError::Stream { what: "writing the signed file", source }
}
