// Package web is the daemon's page, its API and its metrics: HTTP on the address
// that [admin] listen names. It shows what admin.Status has, and remembers the last
// hour of it.
//
// Nothing is open by accident: without a token only those who can reach the address
// on loopback see it, they see no client, and they change nothing; with one, nobody
// sees or changes anything without it.
package web
