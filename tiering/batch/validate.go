package batch

import (
	"errors"
	"fmt"
	"math"
)

// The kinds of refusal beside ErrCorrupt, ErrMagic, ErrCodec and ErrInflated. Kafka's error for each is named.
var (
	// ErrInvalid says that the batch or its records break a rule: INVALID_RECORD.
	ErrInvalid = errors.New("invalid record batch")
	// ErrTooLarge says that the batch exceeds max.message.bytes: MESSAGE_TOO_LARGE.
	ErrTooLarge = errors.New("record batch too large")
	// ErrTimestamp says that a record's timestamp is out of the topic's range or of the wrong type: INVALID_TIMESTAMP.
	ErrTimestamp = errors.New("invalid timestamp")
)

// maxRecordErrors bounds RecordsError.Records. Kafka has no such bound; clients show the first few.
const maxRecordErrors = 100

// RecordError is the refusal of one record of a batch (KIP-467).
type RecordError struct {
	Index   int32
	Message string
}

// RecordsError is the refusal of a batch because of single records. It wraps ErrInvalid or ErrTimestamp.
type RecordsError struct {
	Kind    error
	Records []RecordError
}

// Error says how many records were refused and why the first one was.
func (e *RecordsError) Error() string {
	return fmt.Sprintf("%v: %d record(s) refused, first: record %d: %s", e.Kind, len(e.Records), e.Records[0].Index, e.Records[0].Message)
}

// Unwrap returns the kind.
func (e *RecordsError) Unwrap() error { return e.Kind }

// Rules are what a topic and a Produce request ask of a batch. The zero value refuses everything but empty limits: use
// DefaultRules and change it.
type Rules struct {
	NowMs            int64 // the broker's clock
	MaxBytes         int   // max.message.bytes
	MaxInflatedBytes int   // bound on the uncompressed records of a compressed batch; 0: DefaultMaxInflatedBytes
	TrustCompressed  bool  // open compressed batches only when another rule needs their records
	ChecksumOK       bool  // the CRC was checked while the batch was read
	Facts            Facts // of a Scan of the same batch, so that its records need no second look; zero: there was none
	ZstdAllowed      bool  // Produce v7 and later
	KeyRequired      bool  // cleanup.policy has compact
	LogAppendTime    bool  // message.timestamp.type=LogAppendTime
	BeforeMaxMs      int64 // message.timestamp.before.max.ms
	AfterMaxMs       int64 // message.timestamp.after.max.ms
	Target           Codec // compression.type; CodecProducer keeps the batch as it is
}

// DefaultRules are those of a topic with Kafka's defaults at nowMs.
func DefaultRules(nowMs int64) Rules {
	return Rules{
		NowMs: nowMs, MaxBytes: 1048588, ZstdAllowed: true,
		BeforeMaxMs: math.MaxInt64, AfterMaxMs: 3600000, Target: CodecProducer,
	}
}

// refuseOpened is the refusal of a batch that could not be opened: it is too large, or invalid. Its CRC was right, so that it
// is no matter of transport, and to send it again, as clients do for CORRUPT_MESSAGE, cannot help.
func refuseOpened(err error) error {
	switch {
	case errors.Is(err, ErrInflated):
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// checkShape checks what can be told without the topic: one whole v2 batch with a valid CRC and an allowed size.
func checkShape(b []byte, rules *Rules) (Header, error) {
	if len(b) < magicAt+1 {
		return Header{}, fmt.Errorf("%w: no record batch", ErrInvalid)
	}
	h, err := parse(b)
	if err != nil {
		return h, err
	}
	if h.Codec() == CodecZstd && !rules.ZstdAllowed {
		return h, fmt.Errorf("%w: zstd needs Produce v7 or later", ErrCodec)
	}
	if h.SizeBytes != len(b) {
		return h, fmt.Errorf("%w: more than one record batch for a partition", ErrInvalid)
	}
	if h.BaseOffset != 0 {
		return h, fmt.Errorf("%w: base offset %d, want 0", ErrInvalid, h.BaseOffset)
	}
	if h.SizeBytes > rules.MaxBytes {
		return h, fmt.Errorf("%w: %d bytes exceed max.message.bytes %d", ErrTooLarge, h.SizeBytes, rules.MaxBytes)
	}
	if !rules.ChecksumOK {
		if sum := Checksum(b); sum != h.CRC {
			return h, fmt.Errorf("%w: CRC %08x in the header, %08x over the batch", ErrCorrupt, h.CRC, sum)
		}
	}
	if h.Codec() > CodecZstd {
		return h, fmt.Errorf("%w: %s", ErrCodec, h.Codec())
	}
	return h, nil
}

func checkHeader(h *Header, rules *Rules) error {
	if h.Count <= 0 {
		return fmt.Errorf("%w: record count %d", ErrInvalid, h.Count)
	}
	if int64(h.LastOffsetDelta)+1 != int64(h.Count) {
		return fmt.Errorf("%w: last offset delta %d with %d records", ErrInvalid, h.LastOffsetDelta, h.Count)
	}
	if h.IsControl() {
		return fmt.Errorf("%w: clients may not write control records", ErrInvalid)
	}
	if h.HasProducer() && h.BaseSequence < 0 {
		return fmt.Errorf("%w: sequence %d of producer %d", ErrInvalid, h.BaseSequence, h.ProducerID)
	}
	if h.HasProducer() && h.ProducerEpoch < 0 {
		return fmt.Errorf("%w: epoch %d of producer %d", ErrInvalid, h.ProducerEpoch, h.ProducerID)
	}
	if h.IsLogAppendTime() && (rules.LogAppendTime || h.MaxTimestampMs == noTimestamp) {
		var refused *RecordsError
		for i := range min(h.Count, maxRecordErrors) {
			refused = refused.add(ErrTimestamp, i, "a producer may not set the timestamp type LogAppendTime")
		}
		return refused
	}
	return nil
}

const noTimestamp = -1

// needsRecords tells whether the records of a compressed batch that stays as it is must be looked at.
func needsRecords(h *Header, rules *Rules) bool {
	if !rules.TrustCompressed || rules.KeyRequired {
		return true
	}
	return !rules.LogAppendTime && (rules.BeforeMaxMs != math.MaxInt64 || h.MaxTimestampMs-rules.NowMs > rules.AfterMaxMs)
}

// checkSection checks the records of an uncompressed section and returns the largest timestamp.
func checkSection(section []byte, h *Header, rules *Rules) (int64, error) {
	c := recordCheck{h: *h, rules: rules, maxMs: noTimestamp}
	w := Walk(section, h.Count)
	for i := int32(0); ; i++ {
		ok, err := w.Next(&c.rec)
		if err == nil && ok {
			err = c.see(i)
		}
		if err != nil {
			return 0, err
		}
		if !ok {
			return c.end()
		}
	}
}

// check is checkSection for the section of a compressed batch, of which it holds no more than a piece at a time.
func (o *Opener) check(section []byte, h *Header, rules *Rules) (int64, error) {
	defer o.close()
	s, err := o.open(h.Codec(), section, rules.MaxInflatedBytes)
	if err != nil {
		return 0, err
	}
	c := recordCheck{h: *h, rules: rules, maxMs: noTimestamp}
	for i := int32(0); ; i++ {
		ok, err := s.next(i, h.Count, &c.rec)
		if err == nil && ok {
			err = c.see(i)
		}
		if err != nil {
			return 0, err
		}
		if !ok {
			return c.end()
		}
	}
}

// recordCheck looks at the records of a batch, one after the other.
type recordCheck struct {
	h       Header
	rules   *Rules
	rec     Record
	maxMs   int64
	refused *RecordsError
}

func (c *recordCheck) see(i int32) error {
	if c.rec.OffsetDelta != i {
		return fmt.Errorf("%w: record %d has offset delta %d", ErrInvalid, i, c.rec.OffsetDelta)
	}
	ts, rules := c.h.timestamp(&c.rec), c.rules
	c.maxMs = max(c.maxMs, ts)
	if rules.KeyRequired && c.rec.Key == nil {
		c.refused = c.refused.add(ErrInvalid, i, "a compacted topic does not accept a record without key")
	} else if !rules.LogAppendTime && ts != noTimestamp && !rules.inRange(ts) {
		c.refused = c.refused.add(ErrTimestamp, i, fmt.Sprintf("timestamp %d is out of range: more than %d ms before or %d ms after the broker's clock %d",
			ts, rules.BeforeMaxMs, rules.AfterMaxMs, rules.NowMs))
	}
	return nil
}

// end returns the largest timestamp, or the refusal.
func (c *recordCheck) end() (int64, error) {
	if c.refused != nil {
		return 0, c.refused
	}
	return c.maxMs, nil
}

func (r *Rules) inRange(ts int64) bool {
	age := r.NowMs - ts
	return age <= r.BeforeMaxMs && -age <= r.AfterMaxMs
}

// add appends a refusal; a timestamp's decides the kind of all, as in Kafka.
func (e *RecordsError) add(kind error, index int32, message string) *RecordsError {
	if e == nil {
		e = &RecordsError{Kind: kind}
	}
	if errors.Is(kind, ErrTimestamp) {
		e.Kind = kind
	}
	if len(e.Records) < maxRecordErrors {
		e.Records = append(e.Records, RecordError{Index: index, Message: message})
	}
	return e
}

// timestamp is the record's own timestamp, or the batch's when the broker set it.
func (h *Header) timestamp(rec *Record) int64 {
	if h.IsLogAppendTime() {
		return h.MaxTimestampMs
	}
	return h.BaseTimestampMs + rec.TimestampDeltaMs
}
