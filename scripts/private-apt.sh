# apt with package lists of its own, for packages of other architectures. Sourced, not run.
#
# Nothing of the machine's configuration is changed, no foreign architecture is added to it, and no root is
# needed: packages are downloaded and unpacked, never installed.

# private_apt DIR ARCH...: from here on apt in this shell works in DIR, for this machine's and these architectures.
private_apt() {
    local dir=$1 arch
    shift
    mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
    cat >"$dir/apt.conf" <<EOT
APT::Architecture "$(dpkg --print-architecture)";
APT::Architectures { "$(dpkg --print-architecture)"; $(for arch in "$@"; do printf '"%s"; ' "$arch"; done)};
APT::Sandbox::User "root";
Dir::State::lists "$dir/lists";
Dir::Cache "$dir/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Retries "3";
EOT
    export APT_CONFIG=$dir/apt.conf
    # An index that fails (a mirror in mid-update, a third party's source without ARM) does no harm as long
    # as the packages that are wanted are found.
    apt-get -q update >"$dir/update.log" 2>&1 || true
}
