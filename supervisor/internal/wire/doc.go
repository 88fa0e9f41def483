// Package wire is the protocol between the worker and its Python process: lines of JSON, which it encodes, decodes,
// reads and writes. It knows nothing of the state of the process.
//
// The worker writes tasks ([EncodeTask]), pings ([EncodePing]), cancellations ([EncodeCancel]) and requests to give a
// task back ([EncodeWithdraw]). The process writes the messages that [Decode] tells apart by their [Kind]; whatever else
// it writes is output that is not protocol.
//
// A payload and a result pass through: each is checked once (validJSON, UTF-8) and copied once. encoding/json reads only
// what is rare or not in the form in which the SDK writes it.
package wire
