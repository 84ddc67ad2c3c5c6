#!/usr/bin/env bash
# A newcomer's walk: from an empty folder to data that another environment reads, also without a network.
#
#   scripts/walk.sh [setuptools] [hatchling]      both, one after the other, without an argument
#
# Each command is printed as it is typed, then what it shows; the walk ends with the first one that fails. It needs
# Python 3.10 or newer, and pip must be able to get the two build backends. All is done in a temporary folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
work=$(mktemp -d)
server=
leave() { [ -z "$server" ] || kill "$server"; cd /; rm -rf "$work"; }
trap leave EXIT

say() { printf '\n# %s\n' "$*"; }
run() { printf '$ %s\n' "$1"; eval "$1"; }
file() { printf '$ cat >%s\n' "$1"; tee "$1"; } # its text comes from standard input

# nothing of your own settings and cache is used or changed
unset "${!PKGDATA_@}"
export PKGDATA_CONFIG=/dev/null PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 NO_PROXY=127.0.0.1

walk() {
  local backend=$1 build more port
  case $backend in
    setuptools) build='requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"' more='
[tool.setuptools.package-data]
starpkg = ["pkgdata.toml", "registry.txt"]' ;;
    hatchling) build='requires = ["hatchling"]
build-backend = "hatchling.build"' more= ;;
    *) echo "usage: scripts/walk.sh [setuptools] [hatchling]" >&2; exit 2 ;;
  esac
  mkdir "$work/$backend"; cd "$work/$backend"
  export PKGDATA_CACHE_DIR=$PWD/author-cache

  say "$backend: the author's environment, with pkgdata from this checkout"
  run 'python3 -m venv author && . author/bin/activate'
  run "pip install -q '$root'"

  say "a package of three short files; its data will be served from a folder of this machine"
  port=$(python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  run 'mkdir -p src/starpkg my-data web'
  printf '%s\n' '[build-system]' "$build" '' '[project]' 'name = "starpkg"' 'version = "1.0"' \
    'dependencies = ["pkgdata-cache"]' '' '[project.entry-points."pkgdata.packages"]' 'starpkg = "starpkg"' \
    ${more:+"$more"} | file pyproject.toml
  printf '%s\n' '[package]' 'name = "starpkg"' "dataurl = \"http://127.0.0.1:$port/\"" 'registry = "registry.txt"' |
    file src/starpkg/pkgdata.toml
  printf '%s\n' 'import pkgdata' '' 'get_data = pkgdata.declare(__name__).get' | file src/starpkg/__init__.py

  say "six real files: FITS, PNG and CSV of pkgdata's own samples, JSON, gzip, ZIP"
  run 'pkgdata fetch pkgdata spectrum.fits spiral.png stars.csv digits.idx --to .'
  run 'gzip -c pkgdata/digits.idx >my-data/digits.idx.gz && rm pkgdata/digits.idx && mv pkgdata/* my-data'
  run "echo '{\"telescope\": \"2.2 m\", \"frames\": [1, 2, 3]}' >my-data/night.json"
  run 'python -m zipfile -c my-data/maps.zip my-data/stars.csv my-data/spiral.png'
  run 'ls my-data'

  say "a web server shows the folder; publish copies the files there and reads them back through it"
  run "python -m http.server -b 127.0.0.1 -d web $port >server.log 2>&1 & server=\$!"
  run 'sleep 1'
  run "pkgdata publish my-data --to \"file:\$PWD/web\" --url http://127.0.0.1:$port/ --package ./src/starpkg --index"

  say "the wheel, and what it lacks: nothing"
  run 'pip wheel -q --no-deps -w dist .'
  run 'pkgdata check dist/*.whl'

  say "a user: another environment, an empty cache, another folder"
  run 'deactivate && python3 -m venv user && . user/bin/activate'
  run "pip install -q '$root' dist/*.whl"
  run 'export PKGDATA_CACHE_DIR=$PWD/user-cache && cd /'
  run 'pkgdata list starpkg'
  cat >"$work/read.py" <<'END'
import gzip, json, pkgdata, starpkg

print(open(starpkg.get_data("stars.csv")).readline().strip())
print(json.load(open(starpkg.get_data("night.json")))["frames"])
print(open(starpkg.get_data("spiral.png"), "rb").read(4), open(starpkg.get_data("spectrum.fits"), "rb").read(6))
print(gzip.open(starpkg.get_data("digits.idx.gz")).read(4))
print(*sorted(starpkg.get_data("maps.zip", processor=pkgdata.Unzip())), sep="\n")
END
  run "cat $work/read.py && python $work/read.py"
  run 'pkgdata verify starpkg'

  say "the server is gone, and so is the network: all that was read is still here"
  run 'kill $server && server='
  run "PKGDATA_OFFLINE=1 python $work/read.py"
  run "PKGDATA_OFFLINE=1 pkgdata get starpkg spectrum.fits | xargs cmp '$work/$backend/my-data/spectrum.fits'"
  run 'deactivate'
}

[ $# -gt 0 ] || set -- setuptools hatchling
for backend; do walk "$backend"; done
say "walked: $*"
