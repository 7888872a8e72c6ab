set -eu
root=/node/certs.d
if [ -L "$root" ]; then echo "certs.d on the node is a link: nothing is installed"; exit 1; fi
# The file that speaks first, then what it names.
remove() {
  for last in hosts.toml ca.crt; do
    while read -r key mode path; do
      file="$root/$path"
      [ "${path##*/}" = "$last" ] && [ -f "$file" ] && cmp -s "/files/$key" "$file" || continue
      if [ -f "$file.before-layercast" ]; then
        mv "$file.before-layercast" "$file"
      else
        rm -f "$file"
        rmdir "$root/${path%/*}" 2>/dev/null || true
      fi
      echo "removed $path"
    done < /files/index
  done
  exit 0
}
trap remove TERM INT
while read -r key mode path; do
  file="$root/$path"
  mkdir -p "$root/${path%/*}"
  if [ -f "$file" ] && ! cmp -s "/files/$key" "$file" && [ ! -f "$file.before-layercast" ]; then
    head -n 1 "$root/${path%/*}/hosts.toml" 2>/dev/null | grep -q "Made by .layercast" ||
      cp -p "$file" "$file.before-layercast"
  fi
  cp "/files/$key" "$file.layercast-new"
  chmod "$mode" "$file.layercast-new"
  mv "$file.layercast-new" "$file"
  echo "installed $path"
done < /files/index
touch /run/layercast/installed
while :; do sleep 3600 & wait $!; done
