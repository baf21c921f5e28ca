#!/bin/sh
# Writes the list of parts (CycloneDX) of one program.
#
#   packaging/sbom/write.sh 'CYCLONEDX-GOMOD' VERSION PROGRAM OUTPUT
#
# The tool writes the time at which it ran and sums of its own program, which differ
# from run to run and say nothing of ours: the time is the commit's, and the sums go.
set -e
at=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
$1 bin -json -noserial -std -version "v$2" -output "$4" "$3"
sed -i -e "s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$at\"/" -e '/"tools": \[/,/^    \],\{0,1\}$/{/"hashes": \[/,/^ *\],\{0,1\}$/d}' "$4"
grep -q "\"timestamp\": \"$at\"" "$4" || { echo "$4 has no time of its own to replace" >&2; exit 1; }
