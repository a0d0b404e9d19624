#!/bin/sh
# Install the packages that tests marked `system` need: those named in the file $1 that are missing. Waits for the package
# manager while another program uses it; says what is left out, and ends well, where it cannot have them.
set -u

wait_s=${COOPEXPORT_APT_WAIT_S:-600}
missing=""
for package in $(cat "$1"); do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "leaving out tests that need$missing; to have them: sudo apt-get install$missing"
  exit 0
fi

# Reasons are told by apt's words, which are translated otherwise.
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
started_s=$(date +%s)
told=no
for action in update "install -y$missing"; do
  # apt itself waits for dpkg's lock only (from 1.9.11 on), and not for those of its lists and its archives.
  # shellcheck disable=SC2086  # an action is several words
  until said=$(apt-get -qq -o DPkg::Lock::Timeout=10 $action 2>&1); do
    case $said in
      *"Could not get lock"* | *"Unable to lock"* | *"Unable to acquire the dpkg frontend lock"* | \
        *"locked by another process"*) ;;
      *)
        echo "$said" >&2
        echo "leaving out tests that need$missing: apt-get could not install it"
        exit 0
        ;;
    esac
    if [ $(($(date +%s) - started_s)) -ge "$wait_s" ]; then
      echo "$said" >&2
      echo "leaving out tests that need$missing: another program has used the package manager for $wait_s s"
      exit 0
    fi
    [ $told = yes ] || echo "waiting for the package manager, which another program uses"
    told=yes
    sleep 2
  done
done
