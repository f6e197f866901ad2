//! Columns as the types that they stand for.
//!
//! SQLite and PostgreSQL are both reached by sqlx's `Any`, which knows text, bytes, whole numbers and
//! little else. So a time is a BIGINT of milliseconds, a flag a BIGINT, a digest a BYTEA; these types
//! say which is which, and check what they read.

use jiff::Timestamp;
use sqlx::any::{AnyTypeInfo, AnyValueRef};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Any, Database, Decode, Encode, Type};

use crate::package::{BlobId, Origin, Status};
use crate::rule::Way;

/// A time; milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(super) struct Millis(pub Timestamp);

/// How many bytes, or things, there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count(pub u64);

/// Yes or no; 1 or 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flag(pub bool);

/// A digest, or a word that has a type in the formats' crate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column<T>(pub T);

/// How a type is read from what the column stores, and written as that.
macro_rules! column {
    ($type:ty as $stored:ty, $read:expr, $write:expr) => {
        impl Type<Any> for $type {
            fn type_info() -> AnyTypeInfo {
                <$stored as Type<Any>>::type_info()
            }

            fn compatible(other: &AnyTypeInfo) -> bool {
                <$stored as Type<Any>>::compatible(other)
            }
        }

        impl<'r> Decode<'r, Any> for $type {
            fn decode(value: AnyValueRef<'r>) -> Result<Self, BoxDynError> {
                let read: fn($stored) -> Result<Self, BoxDynError> = $read;
                read(<$stored as Decode<'r, Any>>::decode(value)?)
            }
        }

        impl Encode<'_, Any> for $type {
            fn encode_by_ref(
                &self,
                buffer: &mut <Any as Database>::ArgumentBuffer,
            ) -> Result<IsNull, BoxDynError> {
                let write: fn(&Self) -> $stored = $write;
                Encode::<Any>::encode(write(self), buffer)
            }
        }
    };
}

column!(
    Column<BlobId> as Vec<u8>,
    |bytes| {
        let blob = BlobId::from_slice(&bytes).ok_or("the column has no SHA-256")?;
        Ok(Self(blob))
    },
    |blob| blob.0.as_bytes().to_vec()
);
column!(
    Column<Status> as String,
    // A word of a later version of Larder hides the version rather than showing it.
    |word| Ok(Self(word.parse().unwrap_or(Status::Archived))),
    |status| status.0.as_str().to_owned()
);
column!(
    Column<Origin> as String,
    |word| Ok(Self(Origin::parse(&word))),
    |origin| origin.0.as_str().to_owned()
);
column!(
    Column<Way> as String,
    |word| Ok(Self(Way::parse(&word))),
    |way| way.0.as_str().to_owned()
);
column!(
    Millis as i64,
    |ms| Ok(Self(Timestamp::from_millisecond(ms)?)),
    |time| time.0.as_millisecond()
);
column!(
    Count as i64,
    |number| Ok(Self(u64::try_from(number)?)),
    |count| i64::try_from(count.0).unwrap_or(i64::MAX)
);
column!(Flag as i64, |number| Ok(Self(number != 0)), |flag| {
    i64::from(flag.0)
});
