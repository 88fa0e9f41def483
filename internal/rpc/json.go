package rpc

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// wholeJSON is protobuf's JSON with every field in it: a person who reads the answer is not to wonder whether no
// "healthy" means yes or no.
type wholeJSON struct{}

// Name implements connect.Codec; in the place of connect's own of that name.
func (wholeJSON) Name() string { return "json" }

// Marshal implements connect.Codec.
func (wholeJSON) Marshal(v any) ([]byte, error) {
	m, err := message(v)
	if err != nil {
		return nil, err
	}
	return protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
}

// Unmarshal implements connect.Codec. Fields that only a later version knows are passed over; an empty body is an empty
// message.
func (wholeJSON) Unmarshal(data []byte, v any) error {
	m, err := message(v)
	if err != nil || len(data) == 0 {
		return err
	}
	return protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(data, m)
}

func message(v any) (proto.Message, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%T is not a protobuf message", v)
	}
	return m, nil
}
