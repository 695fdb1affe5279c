# Under fakeroot, so that all files may belong to whom they should: makes a file system of a tree, from 1 MiB on in IMAGE.
#   pack.sh TREE ARCHIVE|"" GRUB-CONFIGURATION IMAGE UUID SIZE
set -eu
tree=$1 archive=$2 configuration=$3 image=$4 uuid=$5 size=$6
if [ -n "$archive" ]; then tar -xf "$archive" -C "$tree" --numeric-owner; fi
mkdir -p "$tree/boot/grub"
cp "$configuration" "$tree/boot/grub/grub.cfg"
mke2fs -q -F -t ext4 -m 0 -L lab -U "$uuid" -E "offset=1048576,hash_seed=$uuid,root_owner=0:0" -d "$tree" "$image" "$size"
