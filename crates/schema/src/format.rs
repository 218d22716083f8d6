//! `format`: what a string must look like. Kubernetes checks the formats of go-openapi; unknown formats are ignored, as is a format that
//! does not go with the type.

mod codes;
mod net;
mod times;

use crate::schema::Type;
use setpoint_meta::names;

/// A format that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Whole number of 32 bits.
    Int32,
    /// Whole number of 64 bits.
    Int64,
    /// Number that fits a 32-bit float.
    Float,
    /// Any number.
    Double,
    /// 24 hexadecimal digits.
    BsonObjectId,
    /// Absolute URI, or an absolute path.
    Uri,
    /// `a@b`, or `Name <a@b>` (RFC 5322).
    Email,
    /// Internet host name.
    Hostname,
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Address and prefix length.
    Cidr,
    /// Hardware address.
    Mac,
    /// UUID of any version.
    Uuid,
    /// UUID of this version: 3, 4 or 5.
    UuidVersion(u8),
    /// ISBN of either length.
    Isbn,
    /// ISBN of 10 digits.
    Isbn10,
    /// ISBN of 13 digits.
    Isbn13,
    /// Credit card number.
    CreditCard,
    /// U.S. social security number.
    Ssn,
    /// `#FFF` or `#FFFFFF`.
    HexColor,
    /// `rgb(1,2,3)`.
    RgbColor,
    /// Base64, not empty: as a CRD means it.
    Byte,
    /// Base64: as a list of bytes of a built-in type means it.
    Bytes,
    /// Any text.
    Password,
    /// `2006-01-02`.
    Date,
    /// RFC 3339.
    DateTime,
    /// `1h30m`, or `3 weeks`.
    Duration,
    /// DNS label.
    ShortName,
    /// DNS subdomain.
    LongName,
}

impl Format {
    /// The format with this name, if it goes with the type. Dashes do not count: `date-time` is `datetime`.
    pub fn parse(name: &str, ty: Type) -> Option<Self> {
        match (ty, name) {
            (Type::Integer, "int32") => return Some(Self::Int32),
            (Type::Integer, "int64") => return Some(Self::Int64),
            (Type::Number, "float") => return Some(Self::Float),
            (Type::Number, "double") => return Some(Self::Double),
            (Type::String | Type::Any, _) => {}
            _ => return None,
        }
        Some(match name.replace('-', "").as_str() {
            "bsonobjectid" => Self::BsonObjectId,
            "uri" => Self::Uri,
            "email" => Self::Email,
            "hostname" => Self::Hostname,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "cidr" => Self::Cidr,
            "mac" => Self::Mac,
            "uuid" => Self::Uuid,
            "uuid3" => Self::UuidVersion(3),
            "uuid4" => Self::UuidVersion(4),
            "uuid5" => Self::UuidVersion(5),
            "isbn" => Self::Isbn,
            "isbn10" => Self::Isbn10,
            "isbn13" => Self::Isbn13,
            "creditcard" => Self::CreditCard,
            "ssn" => Self::Ssn,
            "hexcolor" => Self::HexColor,
            "rgbcolor" => Self::RgbColor,
            "byte" => Self::Byte,
            "password" => Self::Password,
            "date" => Self::Date,
            "datetime" => Self::DateTime,
            "duration" => Self::Duration,
            "k8sshortname" => Self::ShortName,
            "k8slongname" => Self::LongName,
            _ => return None,
        })
    }

    /// Whether it speaks of numbers, and strings have nothing to do with it.
    pub const fn is_numeric(self) -> bool {
        matches!(self, Self::Int32 | Self::Int64 | Self::Float | Self::Double)
    }

    /// Whether a string has this format. Always true for numeric formats.
    pub fn is_match(self, text: &str) -> bool {
        match self {
            Self::Int32 | Self::Int64 | Self::Float | Self::Double | Self::Password => true,
            Self::BsonObjectId => text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit()),
            Self::Uri => net::is_request_uri(text),
            Self::Email => net::is_email(text),
            Self::Hostname => net::is_hostname(text),
            Self::Ipv4 => text.contains('.') && net::parse_ip(text).is_some(),
            Self::Ipv6 => text.contains(':') && net::parse_ip(text).is_some(),
            Self::Cidr => net::is_cidr(text),
            Self::Mac => net::is_mac(text),
            Self::Uuid => codes::is_uuid(text, None),
            Self::UuidVersion(version) => codes::is_uuid(text, Some(version)),
            Self::Isbn => codes::is_isbn10(text) || codes::is_isbn13(text),
            Self::Isbn10 => codes::is_isbn10(text),
            Self::Isbn13 => codes::is_isbn13(text),
            Self::CreditCard => codes::is_credit_card(text),
            Self::Ssn => codes::is_ssn(text),
            Self::HexColor => codes::is_hex_color(text),
            Self::RgbColor => codes::is_rgb_color(text),
            Self::Byte => !text.is_empty() && codes::is_base64(text),
            Self::Bytes => codes::is_base64(text),
            Self::Date => times::is_date(text),
            Self::DateTime => times::is_date_time(text),
            Self::Duration => times::is_duration(text),
            Self::ShortName => names::dns1123_label(text).is_empty(),
            Self::LongName => names::dns1123_subdomain(text).is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, good: &[&str], bad: &[&str]) {
        let format = Format::parse(name, Type::String).unwrap_or_else(|| panic!("{name} is known"));
        good.iter()
            .for_each(|text| assert!(format.is_match(text), "{text:?} is a {name}"));
        bad.iter()
            .for_each(|text| assert!(!format.is_match(text), "{text:?} is no {name}"));
    }

    #[test]
    fn addresses() {
        check(
            "ipv4",
            &["1.2.3.4", "01.2.3.4"],
            &["", "1.2.3", "1.2.3.256", "::1", "1.2.3.4 "],
        );
        check(
            "ipv6",
            &["::1", "fe80::1", "::ffff:1.2.3.4"],
            &["", "1.2.3.4", "1::2::3", "fe80::1%eth0"],
        );
        check(
            "cidr",
            &["10.0.0.0/8", "::/0", "010.0.0.0/8"],
            &["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/+8"],
        );
        check(
            "mac",
            &["00:00:5e:00:53:01", "02-00-5e-10-00-00-00-01", "0000.5e00.5301"],
            &["00:00:5e:00:53", "00:00-5e:00:53:01", "x"],
        );
        check(
            "email",
            &["a@b.c", "A B <a@b.c>", "\"x y\"@b", "<a@b>"],
            &["", "a", "@b", "a@", "a b@c", "a@b@c", "A <a@b"],
        );
        let uris = [
            "http://a.b/c?d#e",
            "/a/b",
            "mailto:a@b",
            "http://[::1]:80/",
            "https://a/%20",
        ];
        check(
            "uri",
            &uris,
            &[
                "",
                "a/b",
                "http://a b/",
                "http://a:b/",
                "/%zz",
                "1http://a",
                "http://a\n",
            ],
        );
        check(
            "hostname",
            &["a", "a1", "a.com", "my-host.example.com", "ä.com"],
            &["", "-a.com", "a-.com", "a..com", "a_b.com", "a.c", "a.com."],
        );
    }

    #[test]
    fn codes() {
        let uuid = "123e4567-e89b-42d3-a456-426614174000";
        check(
            "uuid",
            &[uuid, "123E4567E89B42D3A456426614174000"],
            &["", "123e4567-e89b-42d3-a456-42661417400", "x"],
        );
        check(
            "uuid4",
            &[uuid],
            &[
                "123e4567-e89b-12d3-a456-426614174000",
                "123e4567-e89b-42d3-7456-426614174000",
            ],
        );
        check("uuid3", &["123e4567-e89b-32d3-7456-426614174000"], &[uuid]);
        check(
            "byte",
            &["YQ==", "YWI=", "YWJj"],
            &["", "YQ", "Y===", "YQ=a", "a b=", "_-=="],
        );
        check(
            "isbn10",
            &["0321751043", "0-321-75104-3", "080442957X"],
            &["0321751042", "032175104"],
        );
        check("isbn13", &["978-0321751041"], &["978-0321751040"]);
        check("isbn", &["978-0321751041", "0321751043"], &["1"]);
        check(
            "creditcard",
            &["4111 1111 1111 1111"],
            &["4111 1111 1111 1112", "1", ""],
        );
        check("ssn", &["111-22-3333", "111223333"], &["111-22-333", "aaa-bb-cccc"]);
        check("hexcolor", &["#fff", "FFFFFF"], &["#ffff", "#ggg", ""]);
        check("rgbcolor", &["rgb(0, 255,1)"], &["rgb(0,256,1)", "rgb(0,1)", "rgb"]);
        check(
            "bsonobjectid",
            &["507f1f77bcf86cd799439011"],
            &["507f1f77bcf86cd79943901", "x07f1f77bcf86cd799439011"],
        );
        check("k8s-short-name", &["a-b"], &["A", "a.b"]);
        check("k8s-long-name", &["a-b.c"], &["A", "a..b"]);
    }

    #[test]
    fn times() {
        check(
            "date",
            &["2024-02-29"],
            &["", "2023-02-29", "2024-2-9", "2024-01-01T00:00:00Z"],
        );
        let good = [
            "2024-01-01T00:00:00Z",
            "2024-01-01t00:00:00.123z",
            "2024-01-01T23:59:59+01:00",
        ];
        check(
            "date-time",
            &good,
            &[
                "",
                "2024-01-01",
                "2024-01-01T24:00:00Z",
                "2024-01-01T00:00:00",
                "2024-13-01T00:00:00Z",
            ],
        );
        let good = ["1h30m", "1.5s", "-1h", "0", "22 ns", "3 weeks", "1d", "1µs"];
        check("duration", &good, &["", "1", "h", "1 year", "1x"]);
    }

    #[test]
    fn formats_go_with_types() {
        assert_eq!(Format::parse("int32", Type::Integer), Some(Format::Int32));
        assert_eq!(Format::parse("int32", Type::String), None);
        assert_eq!(Format::parse("uuid", Type::Integer), None);
        assert_eq!(Format::parse("uuid", Type::Any), Some(Format::Uuid));
        assert_eq!(Format::parse("nonsense", Type::String), None);
    }
}
