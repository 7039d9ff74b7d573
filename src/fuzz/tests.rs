use std::{collections::BTreeSet, error::Error, fs, path::PathBuf};

use proptest::prelude::*;

use super::*;

type Outcome = Result<(), Box<dyn Error>>;

fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
}

/// Also what a fuzzer once found: it is kept as one more seed.
#[test]
fn what_is_claimed_of_every_input_holds_for_the_seeds() -> Outcome {
    for (name, _) in TARGETS {
        let seeds =
            fs::read_dir(folder("seeds").join(name)).map_err(|error| format!("seeds of {name}: {error}"))?;
        let mut held = 0;
        for seed in seeds {
            run(name, &fs::read(seed?.path())?);
            held += 1;
        }
        assert!(held > 0, "{name} has no seed");
    }
    Ok(())
}

#[test]
fn every_target_has_a_program_and_every_program_a_target() -> Outcome {
    let manifest: toml::Table = fs::read_to_string(folder("Cargo.toml"))?.parse()?;
    let programs = manifest["bin"].as_array().ok_or("no programs")?;
    let programs: BTreeSet<_> = programs.iter().filter_map(|bin| bin["name"].as_str()).collect();
    assert_eq!(programs, TARGETS.iter().map(|(name, _)| *name).collect());
    for (name, _) in TARGETS {
        let program = fs::read_to_string(folder(&format!("targets/{name}.rs")))?;
        assert!(program.contains(&format!("run(\"{name}\", data)")), "{program}");
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_claimed_of_every_input_holds_for_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..256)) {
        TARGETS.iter().for_each(|(_, holds)| holds(&data));
    }
}
