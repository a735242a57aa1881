package main

import "path"

// accepted is a difference that is meant to be.
type accepted struct {
	path            string // pattern of path.Match for the field
	kafka, tidemark string // patterns for the values, any if empty
	reason          string
}

var acceptances = []accepted{}

// reasonFor finds the reason for a difference; nil if it is not accepted.
func reasonFor(d difference) *accepted {
	for i, a := range acceptances {
		if match(a.path, d.path) && match(a.kafka, d.kafka) && match(a.tidemark, d.tidemark) {
			return &acceptances[i]
		}
	}
	return nil
}

func match(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	ok, err := path.Match(pattern, text)
	return err == nil && ok
}
