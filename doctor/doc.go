// Package doctor says what on this host or LAN will bite, and what to do about it.
//
// Facts are gathered by whoever calls it; Examine makes findings of them, and looks
// at nothing else. Each finding is a function of its own, in a file of its own topic,
// and stands in the list that examinations returns.
package doctor
