//! Columns as the types that they stand for.
//!
//! The package catalog reaches SQLite and PostgreSQL by sqlx's `Any`, which knows text, bytes, whole
//! numbers and little else. So a time is a BIGINT of milliseconds or seconds, a flag a BIGINT, a digest
//! a BYTEA, there and in the cache's catalog; these types say which is which, and check what they read.

use jiff::Timestamp;
use jiff::civil::Date;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::{Database, Decode, Encode, Type};

use crate::package::{BlobId, Origin, Status};
use crate::rule::Way;
use crate::secret::Secret;

/// The day that others are counted from.
const FIRST_DAY: Date = Date::constant(1970, 1, 1);

/// A time; milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Millis(pub Timestamp);

/// A time; whole seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Seconds(pub Timestamp);

/// A day; days since 1970.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Days(pub Date);

/// How many bytes, or things, there are.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Count(pub u64);

/// Yes or no; 1 or 0.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Flag(pub bool);

/// A digest, or a word that has a type in the formats' crate.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Column<T>(pub T);

/// How a type is read from what the column stores, and written as that.
macro_rules! column {
    ($type:ty as $stored:ty, $read:expr, $write:expr) => {
        impl<DB: Database> Type<DB> for $type
        where
            $stored: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$stored as Type<DB>>::type_info()
            }

            fn compatible(other: &DB::TypeInfo) -> bool {
                <$stored as Type<DB>>::compatible(other)
            }
        }

        impl<'r, DB: Database> Decode<'r, DB> for $type
        where
            $stored: Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                let read: fn($stored) -> Result<Self, BoxDynError> = $read;
                read(<$stored as Decode<'r, DB>>::decode(value)?)
            }
        }

        impl<'q, DB: Database> Encode<'q, DB> for $type
        where
            $stored: Encode<'q, DB>,
        {
            fn encode_by_ref(
                &self,
                buffer: &mut DB::ArgumentBuffer,
            ) -> Result<IsNull, BoxDynError> {
                let write: fn(&Self) -> $stored = $write;
                <$stored as Encode<'q, DB>>::encode(write(self), buffer)
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
    Column<Secret> as String,
    |text| Ok(Self(Secret::new(&text))),
    |secret| secret.0.expose().to_owned()
);
column!(
    Millis as i64,
    |ms| Ok(Self(Timestamp::from_millisecond(ms)?)),
    |time| time.0.as_millisecond()
);
column!(
    Seconds as i64,
    |seconds| Ok(Self(Timestamp::from_second(seconds)?)),
    |time| time.0.as_second()
);
column!(
    Days as i64,
    |days| {
        let after = jiff::Span::new().try_days(days)?;
        Ok(Self(FIRST_DAY.checked_add(after)?))
    },
    |day| day.0.duration_since(FIRST_DAY).as_hours() / 24
);
column!(
    Count as i64,
    |number| Ok(Self(u64::try_from(number)?)),
    |count| i64::try_from(count.0).unwrap_or(i64::MAX)
);
column!(Flag as i64, |number| Ok(Self(number != 0)), |flag| {
    i64::from(flag.0)
});

/// A type of a row's field, and the column that it is read from.
pub(in crate::store) trait Field: Sized {
    type Column;

    fn of(column: Self::Column) -> Self;
}

/// Fields whose column holds them as they are.
macro_rules! plain {
    ($($field:ty),*) => {
        $(impl Field for $field {
            type Column = Self;

            fn of(column: Self) -> Self {
                column
            }
        })*
    };
}

plain!(String, Option<String>, i64, Option<i64>, Vec<u8>);
plain!(
    Millis,
    Count,
    Flag,
    Column<BlobId>,
    Option<Column<BlobId>>,
    Column<Status>,
    Column<Origin>
);

/// Fields that are within their column's type.
macro_rules! within {
    ($column:ty, $field:ty) => {
        impl Field for $field {
            type Column = $column;

            fn of(column: $column) -> Self {
                column.0
            }
        }
    };
}

within!(Column<BlobId>, BlobId);
within!(Column<Secret>, Secret);
within!(Count, u64);
within!(Flag, bool);
within!(Days, Date);
within!(Seconds, Timestamp);

impl Field for u32 {
    type Column = Count;

    fn of(count: Count) -> Self {
        Self::try_from(count.0).unwrap_or(Self::MAX)
    }
}

impl Field for Option<Timestamp> {
    type Column = Option<Seconds>;

    fn of(seconds: Option<Seconds>) -> Self {
        seconds.map(|seconds| seconds.0)
    }
}
