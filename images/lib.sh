# shellcheck shell=bash
# What every image builder shares: the machine's Debian mirror, the cache outside the checkout, and the one
# way in which a Debian root is made. Sourced under `set -eu -o pipefail`; it defines functions and does nothing.

# The Debian release that appliances and test guests are made of.
DEBIAN_SUITE=trixie

say() { printf '%s\n' "image: $*" >&2; }
die() {
	say "$*"
	exit 1
}

# The checkout's own folder of built images, wherever cargo may put its target.
image_dir() { printf '%s/target/images\n' "$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"; }

# The mirror that this machine's own apt uses for its own release: the only honest guess at one that is near,
# allowed and alive. DEBIAN_MIRROR overrides it.
debian_mirror() {
	local codename
	if [[ -n ${DEBIAN_MIRROR:-} ]]; then
		printf '%s\n' "$DEBIAN_MIRROR"
		return
	fi
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
	apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v suite="$codename" '$1 == suite && $2 == "main" && !seen { print $3; seen = 1 } END { exit !seen }' ||
		die "apt on this machine names no Debian mirror; set DEBIAN_MIRROR"
}

# hash_of WORD|FILE...: one short hash of the words and of the contents of the files among the arguments.
hash_of() {
	local item
	for item in "$@"; do
		if [[ -f $item ]]; then sha256sum <"$item"; else printf '%s\n' "$item"; fi
	done | sha256sum | cut -c1-16
}

# tree_hash FOLDER...: one short hash of names, modes and contents below the folders.
tree_hash() {
	local folder
	for folder in "$@"; do
		(cd "$folder" && find . \( -type f -o -type l \) -printf '%p %m %l\n' -type f -exec sha256sum {} \; | LC_ALL=C sort)
	done | sha256sum | cut -c1-16
}

# cached WHAT HASH PROGRAM [ARG...]: prints the cache folder WHAT-HASH, and when it lacks, first runs `PROGRAM ARG... FOLDER`
# on a folder of another name, renamed only when whole: a build that was killed leaves nothing that looks finished.
# Two builds at once wait for each other. A program, not a function: bash ignores -e in a function that is called in a condition.
cached() {
	local home=${XDG_CACHE_HOME:-$HOME/.cache}/clusterducks what=$1 hash=$2 final work lock
	shift 2
	final=$home/$what-$hash
	if [[ ! -d $final ]]; then
		mkdir -p "$home"
		exec {lock}>"$home/.$what.lock"
		flock "$lock"
		if [[ ! -d $final ]]; then
			work=$final.part
			rm -rf "$work"
			mkdir -p "$work"
			say "building $what (once; kept as $final)"
			"$@" "$work" >&2 {lock}>&- || die "building $what failed"
			mv "$work" "$final"
		fi
		exec {lock}>&-
	fi
	printf '%s\n' "$final"
}

# debian_root OUTPUT COMPONENTS INCLUDE [MMDEBSTRAP-OPTION...]: a minimal Debian root as a tar, or as a folder or as
# nothing (`/dev/null`) by OUTPUT's name; INCLUDE is a comma list of packages. Needs no root where user namespaces exist.
debian_root() {
	local output=$1 components=$2 include=$3 mirror
	shift 3
	mirror=$(debian_mirror)
	mmdebstrap --variant=minbase --mode=auto --quiet \
		--keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
		--components="$components" --include="$include" \
		--aptopt='Acquire::Retries "3"' --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
		"$@" "$DEBIAN_SUITE" "$output" "$mirror"
}

# package_list FILE: the packages of a list file (one a line, # comments) as a comma list.
package_list() { sed -e 's/#.*//' "$1" | tr -s ' \t\n' ',,,' | sed -e 's/^,//' -e 's/,$//'; }
