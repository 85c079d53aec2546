#!/usr/bin/env bash
# Make the sound volumes that `callgate fuzz images --fs` damages and no formatter of ours makes:
#   tools/fuzz/sound/make.sh
# They are kept, so that a seed means the same mutant everywhere, also without these programs.
# Needs e2fsprogs and genisoimage.
set -euo pipefail
cd "$(dirname "$0")"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree

# So many lines of 512 bytes: they compress, and nevertheless no two sectors are equal.
counted() { seq -f '%0511.0f' "$1" $(($1 + $2 - 1)); }

mkdir -p "$tree/docs/deeper"
counted 1000 5 >"$tree/README.TXT"
: >"$tree/EMPTY.DAT"
counted 2000 30 >"$tree/A rather long file name.text"
counted 3000 10 >"$tree/docs/note.txt"
counted 4000 80 >"$tree/docs/deeper/LAST.BIN"

ext() {
    mke2fs -q -t "$1" -b 1024 -N 64 -U 00000000-0000-0000-0000-0000000000e2 -L "FUZZ $1" -d "$tree" "${@:3}" \
        "$scratch/$1.img" "$2" >/dev/null
}

iso() { genisoimage -quiet -V FUZZ -D "${@:2}" -o "$scratch/$1.img" "$tree"; }

# Joliet and plain ISO 9660 have neither links nor holes.
iso iso9660 -l
iso joliet -J -joliet-long

ln -s docs/note.txt "$tree/short link"
ln -s "docs/$(printf './%.0s' {1..40})deeper" "$tree/long link"
ln -s round "$tree/round"
counted 5000 600 >"$tree/docs/deeper/large"
for tooth in {0..39}; do
    echo "tooth $tooth" | dd of="$tree/comb" bs=1 seek=$((tooth * 6000)) conv=notrunc status=none
done
iso rockridge -R
ext ext2 2M
ext ext3 3M -J size=1
ext ext4 3M -J size=1

for image in "$scratch"/*.img; do
    gzip -9 -n <"$image" >"$(basename "$image").gz"
done
