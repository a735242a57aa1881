package wire

import (
	"math/rand/v2"
	"reflect"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fill sets every field of a kmsg structure to something random, tagged fields and unknown tags included.
func fill(r *rand.Rand, v reflect.Value, version int16, flexible bool) {
	if v.Type() == reflect.TypeFor[kmsg.Tags]() {
		if flexible && r.IntN(3) == 0 {
			t := v.Addr().Interface().(*kmsg.Tags)
			for range 1 + r.IntN(2) {
				t.Set(uint32(100+r.IntN(1000)), []byte("unknown"[:r.IntN(8)]))
			}
		}
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
			d.Default()
		}
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name == "Version" || name == "ThrottleMillis" && version < 1 {
				continue
			}
			fill(r, v.Field(i), version, flexible)
		}
	case reflect.Pointer:
		if r.IntN(2) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), version, flexible)
		}
	case reflect.Slice:
		n := r.IntN(4)
		if r.IntN(40) == 0 {
			n = 200
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			n *= 13
		}
		s := reflect.MakeSlice(v.Type(), n, n)
		for i := range n {
			fill(r, s.Index(i), version, flexible)
		}
		v.Set(s)
	case reflect.Array:
		for i := range v.Len() {
			fill(r, v.Index(i), version, flexible)
		}
	case reflect.String:
		v.SetString("tidemark-string-of-some-length-and-more-and-more-and-more"[:r.IntN(50)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64() >> (64 - v.Type().Bits()))
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint64()) >> (64 - v.Type().Bits()))
	case reflect.Float64:
		v.SetFloat(r.Float64())
	default:
		panic("fill: " + v.Type().String())
	}
}

func randomRequest(r *rand.Rand, key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	req.SetVersion(version)
	fill(r, reflect.ValueOf(req).Elem(), version, req.IsFlexible())
	return req
}
