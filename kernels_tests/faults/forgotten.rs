//! That faults are planted everywhere.

use super::inlined;
use super::shaders::{all, planted_cases};
use std::collections::BTreeMap;
use std::path::Path;
use vqforge::kernels::Caps;
use vqforge::shader::preprocess;

/// Every kernel is planted in, whatever is added to the registry, and every file of WGSL is part of a
/// shader that is: as its text, or by an import that the preprocessor followed.
#[test]
fn no_shader_is_forgotten() {
    for entry in vqforge::kernels::registry() {
        let planted = all().any(|f| f.variant == "baseline" && f.kernels.contains(&entry.name));
        assert!(planted, "no fault for {}", entry.name);
    }
    let software =
        Caps { subgroups: Some((8, 8)), software: true, emulate_coop: true, ..Caps::all() };
    let mut files = files();
    for f in all() {
        // A device without the variant leaves the fault out: here none may be without.
        for kernel in f.kernels {
            let mut cases = planted_cases(f, kernel, &software);
            let holds = cases.any(|case| inlined(&*case.kernel).contains(f.text));
            assert!(holds, "{} stands in no {} of {kernel}", f.name, f.variant);
        }
        for case in f.kernels.iter().flat_map(|kernel| planted_cases(f, kernel, &software)) {
            let k = &*case.kernel;
            let expanded = preprocess::expand(k.shader(), k.wgsl(), &k.consts());
            let origins = expanded.unwrap_or_else(|e| panic!("{e}")).origins;
            files.retain(|file, text| {
                let fragment = file.strip_prefix("lib/").and_then(|f| f.strip_suffix(".wgsl"));
                let imported = |name: &str| origins.iter().any(|(origin, _)| origin == name);
                !(text == k.wgsl() || fragment.is_some_and(imported))
            });
        }
    }
    assert!(files.is_empty(), "nothing is planted in {:?}", files.keys());
}

/// Every file of WGSL: its path below `shaders`, and its text.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let (mut folders, mut files) = (vec![root.clone()], BTreeMap::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("below it").to_string_lossy();
            files.insert(name.replace('\\', "/"), std::fs::read_to_string(&path).expect("text"));
        }
    }
    files
}
