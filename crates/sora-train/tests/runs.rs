//! Runs of the trainer as a person would start, kill and continue them.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};
use tempfile::TempDir;

/// A VAE run that takes a moment per step.
fn vae(run: &Path, steps: u32, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    command.env("OMP_WAIT_POLICY", "PASSIVE").args(["vae", "--batch", "1", "--crop", "32", "--frames", "5"]);
    command.args(["--held-out", "1", "--steps", &steps.to_string(), "--run"]).arg(run).args(more);
    if !more.contains(&"--every") {
        command.args(["--every", "1"]);
    }
    command
}

fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).output().expect("the trainer starts")
}

fn succeeds(command: Command) {
    let output = run(command);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What a failing run says.
fn fails(command: Command) -> String {
    let output = run(command);
    assert_eq!(output.status.code(), Some(1), "it ends with an error, and not by a panic or a signal");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let run = dir.path().join("run");
    (dir, run)
}

/// Figures of every step in a table, in which each step has one line.
fn figures(run: &Path, table: &str) -> BTreeMap<usize, String> {
    let text = fs::read_to_string(run.join(table)).expect("a table");
    let mut figures = BTreeMap::new();
    for line in text.lines().skip(1) {
        let (step, rest) = line.split_once(',').expect("a step and its figures");
        let step: usize = step.parse().expect("a number");
        let last = figures.last_key_value().map_or(0, |(last, _)| *last);
        assert!(last < step, "step {step} comes after step {last}: {text}");
        figures.insert(step, rest.to_owned());
    }
    figures
}

fn losses(run: &Path) -> BTreeMap<usize, String> {
    figures(run, "loss.csv")
}

/// Starts a run and kills it after so many steps.
fn is_killed(mut command: Command, run: &Path, steps: usize) {
    let mut child = command.stderr(Stdio::null()).spawn().expect("the trainer starts");
    let began = Instant::now();
    let lines = || fs::read_to_string(run.join("loss.csv")).map_or(0, |text| text.lines().count());
    while lines() <= steps && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(5));
    }
    // SIGKILL: nothing can be tidied up.
    child.kill().expect("it is ours");
    child.wait().expect("it was started");
}

#[test]
fn a_run_killed_at_any_moment_goes_on_as_if_it_had_not_been() {
    let (_a, whole) = folder();
    let (_b, killed) = folder();
    const STEPS: u32 = 4;
    succeeds(vae(&whole, STEPS, &[]));
    is_killed(vae(&killed, STEPS, &[]), &killed, 2);
    succeeds(vae(&killed, STEPS, &[]));
    assert_eq!(losses(&whole).len(), STEPS as usize);
    assert_eq!(losses(&killed), losses(&whole));
    // The command that made it is on record, as often as it was given.
    let commands = fs::read_to_string(killed.join("command.txt")).expect("command.txt");
    assert_eq!(commands.lines().filter(|line| line.contains("vae --batch 1")).count(), 2);
}

#[test]
fn a_full_disk_leaves_the_last_good_checkpoint() {
    let (_dir, run_dir) = folder();
    succeeds(vae(&run_dir, 1, &[]));
    let checkpoint = run_dir.join("checkpoint.safetensors");
    let before = fs::read(&checkpoint).expect("a checkpoint");
    symlink("/dev/full", run_dir.join("checkpoint.safetensors.part")).expect("a link");
    let said = fails(vae(&run_dir, 2, &[]));
    assert!(said.contains("checkpoint.safetensors") && said.contains("No space left"), "{said}");
    assert!(fs::read(&checkpoint).expect("still there") == before, "the last good checkpoint is as it was");
    succeeds(vae(&run_dir, 2, &[]));
}

#[test]
fn what_belongs_to_a_step_is_there_before_its_checkpoint() {
    let (_dir, run_dir) = folder();
    succeeds(vae(&run_dir, 1, &[]));
    let before = fs::read(run_dir.join("checkpoint.safetensors")).expect("a checkpoint");
    let sheet = run_dir.join("sheet-000002.png");
    fs::create_dir(&sheet).expect("a folder in its place");
    let said = fails(vae(&run_dir, 3, &[]));
    assert!(said.contains("sheet-000002.png"), "{said}");
    assert!(fs::read(run_dir.join("checkpoint.safetensors")).expect("there") == before, "it is of step 1");
    fs::remove_dir(&sheet).expect("removed");
    succeeds(vae(&run_dir, 3, &[]));
    assert!(fs::metadata(&sheet).expect("a sheet").is_file());
    assert_eq!(losses(&run_dir).len(), 3, "the step that was taken twice has one row");
}

#[test]
fn a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_checkpoint() {
    let (_dir, run_dir) = folder();
    succeeds(vae(&run_dir, 1, &[]));
    let before = fs::read(run_dir.join("checkpoint.safetensors")).expect("a checkpoint");
    let said = fails(vae(&run_dir, 60, &["--learning-rate", "1e30", "--every", "1000"]));
    assert!(said.contains("the gradient of step") && said.contains("NaN"), "{said}");
    assert!(fs::read(run_dir.join("checkpoint.safetensors")).expect("there") == before);
}

#[test]
fn parameters_that_are_not_numbers_stop_the_run_and_keep_the_checkpoint() {
    let (_dir, run_dir) = folder();
    succeeds(vae(&run_dir, 1, &[]));
    let before = fs::read(run_dir.join("checkpoint.safetensors")).expect("a checkpoint");
    // Beyond what an f32 holds: the gradient of the step is as good as any, what it leads to is not.
    let said = fails(vae(&run_dir, 3, &["--learning-rate", "1e45"]));
    assert!(said.contains("the parameters of step 2 are not finite"), "{said}");
    assert!(fs::read(run_dir.join("checkpoint.safetensors")).expect("there") == before);
}

/// What a command says that is refused for its options.
fn is_refused(command: Command) -> String {
    let output = run(command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(1 | 2)) && !said.contains("panicked"), "{said}");
    said
}

#[test]
fn options_that_nothing_can_be_trained_with_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().expect("a folder");
    let trainers = ["vae", "transformer", "distil", "source-encoder", "judge", "probe", "enhancer"];
    let mut refused: Vec<(&str, &str, &str, &str)> = Vec::new();
    for trainer in trainers {
        refused.push((trainer, "--every", "0", "0 is not a whole number from 1 on"));
        for rate in ["0", "NaN", "inf"] {
            refused.push((trainer, "--learning-rate", rate, "is not a finite number above 0"));
        }
        refused.push((trainer, "--batch", "0", "batch is 0, it must be at least"));
    }
    refused.extend([
        ("vae", "--crop", "36", "crop is 36, it must be a multiple of 8"),
        ("vae", "--crop", "0", "crop is 0, it must be a multiple of 8"),
        ("vae", "--frames", "8", "frames is 8, it must be 1 + a multiple of 4, and at least 5"),
        ("vae", "--frames", "1", "frames is 1, it must be 1 + a multiple of 4, and at least 5"),
        ("enhancer", "--threads", "0", "0 is not in 1..=1024"),
        ("distil", "--critic-learning-rate", "inf", "is not a finite number above 0"),
    ]);
    for (trainer, option, value, why) in refused {
        let said = is_refused(stage(dir.path(), trainer, "run", &[option, value]));
        assert!(said.contains(why), "{trainer} {option} {value}: {said}");
        assert!(!dir.path().join("run").exists(), "{trainer} {option} {value} has made a folder");
    }
}

/// `sora-train export` of run folders that are not there.
fn export(dir: &Path, out: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    command.current_dir(dir).args(["export", "--out", out]).args(more);
    command
}

#[test]
fn an_export_replaces_nothing_but_a_model() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    fs::create_dir_all(dir.join("runs/vae")).expect("a folder");
    fs::write(dir.join("runs/vae/checkpoint.safetensors"), "hours").expect("written");
    fs::write(dir.join("file"), "a file").expect("written");
    let before = files(dir);
    let said = fails(export(dir, "runs", &[]));
    assert!(said.contains("out is runs") && said.contains("it has no model_index.json"), "{said}");
    let said = fails(export(dir, "file", &[]));
    assert!(said.contains("out is file, which is there and no folder"), "{said}");
    let said = fails(export(dir, ".", &[]));
    assert!(said.contains("it must name a folder"), "{said}");
    assert!(files(dir) == before);

    // A model that this export reads from, by whatever name.
    fs::write(dir.join("runs/model_index.json"), "{}").expect("written");
    symlink("runs/vae", dir.join("link")).expect("a link");
    for (option, input) in [("--vae", "link"), ("--transformer", "runs"), ("--enhancer", "runs/vae")] {
        let mut more: BTreeMap<&str, &str> =
            ["--vae", "--transformer", "--tokenizer"].into_iter().map(|option| (option, "none")).collect();
        more.insert(option, input);
        let more: Vec<&str> = more.into_iter().flat_map(|(option, input)| [option, input]).collect();
        let said = fails(export(dir, "runs", &more));
        assert!(said.contains("which holds the") && said.contains(&option[2..]), "{said}");
    }
    // A model stays where the new one cannot be made.
    fs::create_dir(dir.join("model")).expect("a folder");
    fs::write(dir.join("model/model_index.json"), "{}").expect("written");
    let before = files(dir);
    let said = fails(export(dir, "model", &[]));
    assert!(said.contains("runs/transformer"), "{said}");
    assert!(files(dir) == before);
    // A former export was killed when it had put the model aside: it comes back.
    fs::rename(dir.join("model"), dir.join("model.old")).expect("renamed");
    fails(export(dir, "model", &[]));
    assert!(files(dir) == before);
    // What stands there without need may be anyone's.
    fs::create_dir(dir.join("model.old")).expect("a folder");
    let said = fails(export(dir, "model", &[]));
    assert!(said.contains("model.old is in the way"), "{said}");
}

#[test]
fn a_run_of_another_size_is_not_continued() {
    let (_dir, run_dir) = folder();
    succeeds(vae(&run_dir, 1, &[]));
    let said = fails(vae(&run_dir, 2, &["--preset", "full"]));
    assert!(said.contains("describes another network") && said.contains("base_dim is 16"), "{said}");
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let inside = file.path().join("run");
    let said = fails(vae(&inside, 1, &[]));
    assert!(said.contains("run folder") && said.contains(inside.to_str().expect("UTF-8")), "{said}");
}

#[test]
fn cuda_where_there_is_none_is_an_error() {
    let (_dir, run_dir) = folder();
    let said = fails(vae(&run_dir, 1, &["--device", "cuda:99"]));
    assert!(said.to_lowercase().contains("cuda"), "{said}");
}

#[test]
fn latents_of_nothing_are_named() {
    let (_dir, empty) = folder();
    fs::create_dir(&empty).expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    command.arg("latents").arg("--vae").arg(&empty).arg("--run").arg(empty.join("latents"));
    let said = fails(command);
    assert!(said.contains("config.json") && said.contains("the folder of a run"), "{said}");
}

/// All files of a folder, by their path in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("inside").to_str().expect("UTF-8").to_owned();
                found.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    found
}

#[test]
fn the_decoder_alone_learns_from_what_a_model_makes() {
    let dir = tempfile::tempdir().expect("a folder");
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sora-tiny");
    let vae_folder = model.join("vae");
    let begin = ["--init", vae_folder.to_str().expect("UTF-8"), "--decoder-only"];
    let made = ["--made-by", model.to_str().expect("UTF-8"), "--made", "1", "--made-batch", "1"];
    let mut import = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    import.arg("import").arg("--model").arg(&model).arg("--runs").arg(dir.path());
    succeeds(import);
    let parameters = |run: &str| {
        let file = dir.path().join(run).join("checkpoint.safetensors");
        let tensors = Tensor::read_safetensors(file).expect("a checkpoint");
        tensors.into_iter().find(|(name, _)| name == "parameters").expect("they are in it").1
    };
    let before = parameters("vae");
    let learned = |run: &str, more: &[&str]| {
        succeeds(vae(&dir.path().join(run), 2, &[&begin[..], more].concat()));
        parameters(run)
    };
    let weights = ["--temporal-weight", "20", "--border-weight", "3", "--latent-noise", "0.2"];
    let both = learned("both", &[&made[..], &weights].concat());
    let alone = learned("alone", &weights);
    assert_ne!(both, alone, "what the model makes teaches something");
    let kept =
        |after: &Tensor| after.eq_tensor(&before).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
    // The encoder is a good third of it.
    for after in [&both, &alone] {
        assert!((0.25..0.6).contains(&kept(after)), "{}", kept(after));
    }
    let run = dir.path().join("neither");
    let output = self::run(vae(&run, 1, &made));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--decoder-only"));
}

/// `sora-train STAGE --run DIR/STAGE ...`
fn stage(dir: &Path, stage: &str, run: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    command.current_dir(dir).env("OMP_WAIT_POLICY", "PASSIVE").args([stage, "--run", run]).args(more);
    command
}

#[test]
fn the_transformer_and_its_student_learn_in_both_formats_and_are_exported() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    succeeds(vae(&dir.join("runs/vae"), 1, &[]));
    succeeds(stage(dir, "tokenizer", "runs/tokenizer", &["--captions", "400"]));
    let latents = ["--clips", "100", "--size", "64x64x5"];
    succeeds(stage(dir, "latents", "runs/latents", &latents));
    // What is added to them is of the same.
    let said = fails(stage(dir, "latents", "runs/latents", &[&latents[..], &["--seed", "2"]].concat()));
    assert!(said.contains("its seed is 1, asked for is 2"), "{said}");
    let small = ["--preset", "xxs", "--steps", "3", "--batch", "4", "--replicas", "2", "--every", "3"];
    let first_losses = |name: &str| -> Vec<f64> {
        let text = fs::read_to_string(dir.join(name).join("loss.csv")).expect("loss.csv");
        let loss = |line: &str| line.split(',').nth(1).and_then(|cell| cell.parse().ok()).expect("a loss");
        text.lines().skip(1).map(loss).collect()
    };
    succeeds(stage(dir, "transformer", "runs/transformer", &small));
    // What is kept of a step is there before its checkpoint: a run that is killed in between makes it again.
    fs::create_dir_all(dir.join("runs/kept/sheet-000003.png")).expect("a folder in the place of a picture");
    fails(stage(dir, "transformer", "runs/kept", &[&small[..], &["--keep"]].concat()));
    assert!(dir.join("runs/kept/step-000003/checkpoint.safetensors").exists());
    assert!(!dir.join("runs/kept/checkpoint.safetensors").exists());
    succeeds(stage(dir, "transformer", "runs/bf16", &[&small[..], &["--dtype", "bf16"]].concat()));
    let (exact, rounded) = (first_losses("runs/transformer"), first_losses("runs/bf16"));
    assert_eq!(exact.len(), 3);
    for (exact, rounded) in exact.iter().zip(&rounded) {
        assert!((exact - rounded).abs() < 0.02 * exact && exact != rounded, "{exact} and {rounded}");
    }
    let student = ["--steps", "2", "--batch", "2", "--segments", "2", "--substeps", "2", "--every", "2"];
    succeeds(stage(dir, "distil", "runs/student", &student));
    let options = ["--transformer", "runs/student", "--student", "--steps", "2", "--guidance-scale", "1"];
    let mut export = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    export.current_dir(dir).args(["export", "--out", "model", "--width", "64", "--height", "64"]);
    export.args(["--frames", "5"]).args(options);
    succeeds(export);
    let scheduler =
        fs::read_to_string(dir.join("model/scheduler/scheduler_config.json")).expect("a schedule");
    assert!(scheduler.contains("\"solver_order\": 1"), "{scheduler}");
}

#[test]
fn a_student_restyles_the_sources_of_pairs_in_both_formats() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    succeeds(vae(
        &dir.join("runs/vae"),
        2,
        &["--dtype", "bf16", "--temporal-weight", "3", "--latent-noise", "0.2"],
    ));
    succeeds(stage(dir, "tokenizer", "runs/tokenizer", &["--captions", "400"]));
    let clips = ["--clips", "100", "--size", "64x64x9"];
    succeeds(stage(dir, "latents", "runs/latents", &clips));
    let pairs = [&clips[..], &["--pairs"]].concat();
    succeeds(stage(dir, "latents", "runs/pairs", &pairs));
    let all = ["--pairs", "runs/pairs", "--restyling", "1"];
    let first = ["--preset", "xxs", "--steps", "1", "--batch", "4"];
    succeeds(stage(dir, "transformer", "runs/transformer", &[&first[..], &all].concat()));
    let student = ["--steps", "6", "--batch", "2", "--replicas", "2", "--segments", "2", "--every", "6"];
    for dtype in ["f32", "bf16"] {
        let restyled = ["--restyled", "0.8", "--single-steps", "0.5", "--dtype", dtype];
        let run = format!("runs/student-{dtype}");
        succeeds(stage(dir, "distil", &run, &[&student[..], &all, &restyled].concat()));
        let table = fs::read_to_string(dir.join(&run).join("loss.csv")).expect("loss.csv");
        let tasks: Vec<&str> = table.lines().skip(1).filter_map(|line| line.rsplit(',').next()).collect();
        assert_eq!(tasks.len(), 6, "{table}");
        assert!(tasks.contains(&"2") && !tasks.contains(&"1"), "{table}");
        assert!(dir.join(&run).join("pairs-000006.png").exists());
    }
    // What an adapter holds is learned beside a model that is exported, from the run folders that are made of it.
    let mut export = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    export.current_dir(dir).args([
        "export",
        "--out",
        "model",
        "--transformer",
        "runs/student-f32",
        "--student",
    ]);
    succeeds(export);
    let import = || {
        let mut import = Command::new(env!("CARGO_BIN_EXE_sora-train"));
        import.current_dir(dir).args(["import", "--model", "model", "--runs", "imported"]);
        import
    };
    succeeds(import());
    assert!(fails(import()).contains("imported/vae is there already"));
    let before = files(&dir.join("model"));
    let from = [
        "--teacher",
        "imported/student",
        "--vae",
        "imported/vae",
        "--restyled",
        "1",
        "--critic-weight",
        "0.1",
    ];
    let more = ["--adapter", "3", "--muon", "--learning-rate", "1e-3"];
    succeeds(stage(dir, "distil", "runs/restyler", &[&student[..], &all, &from, &more].concat()));
    let kept = Tensor::read_safetensors(dir.join("runs/restyler/checkpoint.safetensors")).expect("one");
    assert!(kept.iter().any(|(name, _)| name == "critic.parameters"));
    let adapter = |run: &str| stage(dir, "adapter", run, &["--model", "model", "--rank", "3"]);
    succeeds(adapter("runs/restyler"));
    let after = files(&dir.join("model"));
    let changed: Vec<&str> = after
        .iter()
        .filter(|(file, bytes)| before.get(*file) != Some(bytes))
        .map(|(file, _)| file.as_str())
        .collect();
    assert_eq!(
        changed,
        [
            "source_embedding/diffusion_pytorch_model.safetensors",
            "source_lora/pytorch_lora_weights.safetensors"
        ]
    );
    // A student all of which learned is more than an adapter holds, and is not half written.
    let said = fails(adapter("runs/student-bf16"));
    assert!(said.contains("has changed, which an adapter cannot hold"), "{said}");
    assert!(files(&dir.join("model")) == after);
    // A source encoder learns by itself; a student that was taught to restyle before sees its guesses from then on.
    let encoder =
        ["--student", "imported/student", "--vae", "imported/vae", "--channels", "8", "--layers", "1"];
    let steps = ["--steps", "4", "--batch", "4", "--replicas", "2", "--every", "4"];
    succeeds(stage(dir, "source-encoder", "runs/source-encoder", &[&encoder[..], &steps].concat()));
    assert!(dir.join("runs/source-encoder/pairs-000004.png").exists());
    let begun = ["--init", "runs/restyler", "--adapted", "imported/student"];
    let behind = ["--source-encoder", "runs/source-encoder"];
    let options = [&student[..], &all, &from, &more, &begun, &behind].concat();
    succeeds(stage(dir, "distil", "runs/guided", &options));
    succeeds(adapter("runs/guided"));
    assert!(dir.join("model/source_encoder/diffusion_pytorch_model.safetensors").exists());
    let mut import = Command::new(env!("CARGO_BIN_EXE_sora-train"));
    import.current_dir(dir).args(["import", "--model", "model", "--runs", "again"]);
    succeeds(import);
    let config = |run: &str| fs::read_to_string(dir.join(run).join("config.json")).expect("a config");
    assert_eq!(config("again/student"), config("runs/guided"));
    let uneven = ["--student", "imported/student", "--channels", "12"];
    let said = fails(stage(dir, "source-encoder", "runs/uneven", &uneven));
    assert!(said.contains("channels") && said.contains("a multiple of 8"), "{said}");
    // Sources that the network has never seen cannot be restyled.
    succeeds(stage(dir, "transformer", "runs/blind", &first));
    let blind = ["--teacher", "runs/blind", "--restyled", "1"];
    let said = fails(stage(dir, "distil", "runs/blind-student", &[&student[..], &all, &blind].concat()));
    assert!(said.contains("its network sees no sources"), "{said}");
}

#[test]
fn a_student_is_judged_by_one_that_knows_enough() {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path();
    succeeds(vae(&dir.join("runs/vae"), 1, &[]));
    succeeds(stage(dir, "tokenizer", "runs/tokenizer", &["--captions", "400"]));
    let clips = ["--clips", "100", "--size", "64x64x17"];
    succeeds(stage(dir, "latents", "runs/latents", &clips));
    succeeds(stage(dir, "latents", "runs/validation", &[&clips[..], &["--validation"]].concat()));
    succeeds(stage(
        dir,
        "transformer",
        "runs/transformer",
        &["--preset", "xxs", "--steps", "1", "--batch", "4"],
    ));
    let judge = ["--steps", "2", "--batch", "4", "--channels", "8,16", "--every", "1"];
    let said = fails(stage(dir, "judge", "runs/judge", &[&judge[..], &["--latents-seed", "7"]].concat()));
    assert!(said.contains("with seed 7 it would be"), "{said}");
    succeeds(stage(dir, "judge", "runs/judge", &judge));

    let judged = ["--judge", "runs/judge", "--judged", "1", "--streams", "0.5", "--critic-weight", "0.1"];
    let student = ["--steps", "4", "--batch", "2", "--replicas", "2", "--segments", "2", "--every", "4"];
    let distil = || stage(dir, "distil", "runs/student", &[&student[..], &judged].concat());
    let said = fails(distil());
    assert!(said.contains("runs/judge") && said.contains("train it further"), "{said}");
    // As if it had learned.
    let knowledge = dir.join("runs/judge/knowledge.json");
    let json = r#"{"subject": {"tally": {"right": 90, "of": 100}, "commonest": 0.2}}"#;
    fs::write(&knowledge, json).expect("written");
    succeeds(distil());
    // One of other latents is refused.
    let config = dir.join("runs/judge/config.json");
    let text = fs::read_to_string(&config).expect("the judge's config");
    fs::write(&config, text.replace("\"latents\": 8", "\"latents\": 16")).expect("written");
    let said = fails(distil());
    assert!(said.contains("runs/judge") && said.contains("8 channels"), "{said}");
    fs::write(&config, text).expect("written");
    assert_eq!(figures(&dir.join("runs/student"), "judged.csv").len(), 4);
    // Streams and the critic go on where a run was killed: those after it are what they would have been.
    let streams = ["--streams", "0.8", "--steps", "10", "--every", "1"];
    let student = ["--batch", "2", "--replicas", "2", "--segments", "2"];
    let judged = ["--judge", "runs/judge", "--judged", "0.9", "--critic-weight", "0.1"];
    let distil = |run: &str| stage(dir, "distil", run, &[&student[..], &judged, &streams].concat());
    succeeds(distil("runs/whole"));
    is_killed(distil("runs/killed"), &dir.join("runs/killed"), 6);
    succeeds(distil("runs/killed"));
    for table in ["loss.csv", "judged.csv"] {
        let [whole, killed] = ["runs/whole", "runs/killed"].map(|run| figures(&dir.join(run), table));
        assert!(whole.len() > 6 && whole == killed, "{table}: {whole:?}, killed {killed:?}");
    }
    let judged = ["--judge", "runs/judge", "--judged", "1", "--steps", "2"];
    // A student begins at another where it is told to.
    succeeds(stage(
        dir,
        "distil",
        "runs/again",
        &[&student[..], &judged, &["--init", "runs/student"]].concat(),
    ));
}
