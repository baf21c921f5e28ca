// Package admin is how people and programs ask a running daemon what it does:
// HTTP with JSON over a unix socket, whose file rights say who may ask.
package admin
