"""Everything that a kind cluster needs only if no container registry can be reached.

This is Docker from Debian's packages, and a node image for kind that is built from Debian packages and Go modules. Only
`ci/cluster` and the tests import this package.
"""
