// Package house holds the tests of the repository itself: who may import whom,
// and the other rules of CONTRIBUTING.md that can be read off the sources.
package house
