//! Files with secrets, which only their owner can read.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Opens a file with a secret.
///
/// # Errors
/// It can't be opened, or others can read or change it; for a person.
pub(crate) fn open(path: &Path, hint: &str) -> Result<File, String> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    open_among(path, hint, credentials.as_deref().map(Path::new))
}

/// The same, where the service manager keeps credentials in this folder. It lets nobody but the service
/// enter, and shows the service's own right to read as the group's.
fn open_among(path: &Path, hint: &str, credentials: Option<&Path>) -> Result<File, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let file = File::open(path).map_err(|error| told(&format!("{error}; {hint}")))?;
    let is_credential = credentials.is_some_and(|folder| path.starts_with(folder));
    let of_others = if is_credential { 0o037 } else { 0o077 };
    if file.metadata().map_err(|error| told(&error))?.mode() & of_others != 0 {
        let wanted = "others than its owner can read or change it: chmod 600";
        return Err(told(&format!("{wanted} {}", path.display())));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_read_from_a_file_of_its_owner_alone_or_a_credential_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "secret").unwrap();
        for (mode, is_private, is_credential) in [
            (0o600, true, true),
            (0o400, true, true),
            (0o440, false, true),
            (0o640, false, true),
            (0o660, false, false),
            (0o444, false, false),
        ] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            assert_eq!(open_among(&path, "", None).is_ok(), is_private, "{mode:o}");
            assert_eq!(open_among(&path, "", Some(folder.path())).is_ok(), is_credential, "{mode:o}");
            assert_eq!(open_among(&path, "", Some(Path::new("/other"))).is_ok(), is_private, "{mode:o}");
        }
        let missing = open_among(&folder.path().join("none"), "put it there", None).unwrap_err();
        assert!(missing.contains("none") && missing.contains("put it there"), "{missing}");
    }
}
