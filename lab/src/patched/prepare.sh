# Makes the sources in /src ready for modules of Debian's kernel. Arguments: release, compiler, jobs.
set -eu
cd /src
version=$(sed -n 's/^CONFIG_RUSTC_VERSION_TEXT="\(.*\)"$/\1/p' /built/.config)
# Symbols of Rust have the compiler's version in their names.
if [ "$(rustc --version)" != "$version" ]; then
	echo "Debian built this kernel with $version, and its suite has $(rustc --version)"
	exit 1
fi
cp /built/.config /built/Module.symvers /built/vmlinux .
base=$(make -s ARCH=x86 kernelversion)
case $1 in
"$base"*) ;;
*) echo "the sources are of $base, and the kernel is $1" && exit 1 ;;
esac
set -- "$3" ARCH=x86 CC="x86_64-linux-gnu-$2" HOSTCC="$2" LOCALVERSION="${1#"$base"}"
jobs=$1
shift
make "$@" olddefconfig
# Another configuration would be another kernel.
diff /built/.config .config
make -j "$jobs" "$@" prepare modules_prepare
