// Package ext extends Traefik's dynamic configuration by nothing.
package ext

// HTTP has no further fields of the HTTP configuration.
type HTTP struct{}

// Router has no further fields of a router.
type Router struct{}
