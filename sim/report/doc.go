// Package report is what came out of a simulated LAN, as a value, and as text for
// a terminal, as JSON, and as a page. It runs nothing.
package report
