#!/bin/sh
# Check without a network who made a bundle, before you unpack it.
#
#   signature.sh ARCHIVE SIGNERS
#
# ARCHIVE is the packed bundle. Its signature, ARCHIVE.sig, covers every byte of it. SIGNERS is an allowed-signers file of
# ssh-keygen with the publisher's public key. Get SIGNERS from the publisher, and never from the place of the bundle. This
# script changes nothing. It needs ssh-keygen (OpenSSH 8.1 or newer).
set -eu

SIGNER=house-platform           # the publisher's name in SIGNERS
NAMESPACE=house-platform-bundle # what the signature is for: one that the same key made for another purpose does not count

refuse() {
    echo "REFUSED: $*" >&2
    exit 1
}

[ $# -eq 2 ] && [ -n "$2" ] || refuse "no allowed-signers file is named: signature.sh ARCHIVE SIGNERS, or SIGNER=FILE with make"
archive=$1 signers=$2
command -v ssh-keygen >/dev/null || refuse "ssh-keygen is not installed here, so the signature cannot be checked: install the OpenSSH client"
[ -r "$signers" ] || refuse "the allowed-signers file $signers cannot be read: copy it from the publisher"
[ -r "$archive" ] || refuse "$archive cannot be read: copy the bundle to this place"
[ -r "$archive.sig" ] || refuse "$archive has no signature: copy $archive.sig from the place of the bundle, or ask the publisher for it"

if output=$(ssh-keygen -Y verify -f "$signers" -I "$SIGNER" -n "$NAMESPACE" -s "$archive.sig" <"$archive" 2>&1); then
    echo "==> ${archive##*/}: $output"
    exit 0
fi
echo "$output" >&2
if ssh-keygen -Y check-novalidate -n "$NAMESPACE" -s "$archive.sig" <"$archive" >/dev/null 2>&1; then
    refuse "$archive is signed by a key that $signers does not allow for $SIGNER: do not unpack it, and ask the publisher"
fi
refuse "$archive is not the file that was signed, or its signature is damaged: copy both again, and do not unpack it"
