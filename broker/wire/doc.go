// Package wire is Kafka's protocol as bytes: the table of served versions, request headers, the decoder of Produce that works while the
// bytes arrive, the encoders of Produce and Fetch answers that never copy records, the pre-walk that bounds what decoding the other
// requests may cost, and the pool of frames.
//
// Produce and Fetch are done by hand because they carry record bytes; everything else is decoded and encoded by kmsg (see Check).
// PURE apart from the frame pool's mutexes: no goroutines, no clock; readers are arguments.
package wire

// Header is a request header (v1 or v2) after parsing. A null client id is the empty one, as in Kafka.
type Header struct {
	Key, Version  int16
	CorrelationID int32
	ClientID      string
}
